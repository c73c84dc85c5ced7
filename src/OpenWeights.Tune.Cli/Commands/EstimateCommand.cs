using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt estimate.</summary>
internal static class EstimateCommand
{
    private static readonly Argument<string> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml" };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings that override the file's, such as training.micro_batch_size=1.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };
    private static readonly Option<bool> s_measure = new("--measure") { Description = "Load the weights and run the longest rows once: measures memory, seconds per step, and the duration of the run." };
    private static readonly Option<int?> s_ranks = Ranks();
    private static readonly Option<string?> s_deviceMemory = DeviceMemory();
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("estimate", "Estimates the memory of a run, by part; the model's config.json or its name on the Hub is enough.") { s_config, s_overrides, s_measure, s_ranks, s_deviceMemory, s_json };
        command.SetAction(Run);
        return command;
    }

    private static Option<int?> Ranks()
    {
        var option = new Option<int?>("--ranks") { Description = "Estimate the memory of each of several ranks (owt launch), for each kind of parallel.shard, and what a rank sends in a step.", HelpName = "N" };
        option.Validators.Add(static result =>
        {
            if (result.GetValueOrDefault<int?>() is < 1)
            {
                result.AddError("--ranks: it must be at least 1.");
            }
        });
        return option;
    }

    private static Option<string?> DeviceMemory()
    {
        var option = new Option<string?>("--device-memory") { Description = "With --ranks: the ranks are GPUs with this memory, whatever this machine has, such as 24GB or 80GiB; says which kinds fit.", HelpName = "SIZE" };
        option.Validators.Add(static result =>
        {
            if (result.GetValueOrDefault<string?>() is { } text && MemorySize.Parse(text) is null)
            {
                result.AddError($"--device-memory: {text} is not a size; write it as 24GB or 80GiB.");
            }
            else if (result.Parent?.GetResult("--ranks") is null)
            {
                result.AddError("--device-memory: it is the memory of each of several ranks; give --ranks too.");
            }
        });
        return option;
    }

    private static int Run(ParseResult arguments)
    {
        var file = RunConfigFile.Inspect(arguments.GetValue(s_config)!, arguments.GetValue(s_overrides) ?? []);
        RunCheck.RequirePaths(file);
        var config = file.Config;
        var isMeasured = arguments.GetValue(s_measure);
        var console = new RunConsole(json: true);
        var folder = isMeasured
            ? ModelPath.Resolve(config.Model.Path, new DownloadConsole(), Signals.Stop)
            : ModelPath.ResolveSettings(config.Model.Path, new DownloadConsole(), Signals.Stop);
        config = config with { Model = config.Model with { Path = folder } };
        var (memory, measured) = isMeasured ? Measured(RunDraft.Read(config, console), console) : (Memory(config, console), null);
        var (count, each) = (arguments.GetValue(s_ranks), arguments.GetValue(s_deviceMemory) is { } text ? MemorySize.Parse(text) : null);
        var ranks = count is { } several ? memory.OfRanks(several, onGpu: each is not null) : null;
        if (arguments.GetValue(s_json))
        {
            WriteJson(memory, measured, ranks, each);
        }
        else if (ranks is not null)
        {
            RankTable.Write(ranks, count!.Value, each);
        }
        else
        {
            WriteText(memory, measured);
        }

        return ExitCode.Success;
    }

    private static (RunMemory Memory, RunMeasurement? Measured) Measured(RunDraft draft, RunConsole console)
    {
        using var run = TrainingRun.Prepare(draft, console);
        return (draft.Memory, run.Measure());
    }

    // Rows have their actual lengths; without a tokenizer, the maximum length is assumed.
    private static RunMemory Memory(RunConfig config, RunConsole console)
    {
        try
        {
            return RunDraft.Read(config, console, new RunOptions(SettingsAlone: true)).Memory;
        }
        catch (FileNotFoundException e) when (e.FileName == config.Model.Path)
        {
            console.Warn($"{config.Model.Path} has no tokenizer, so all rows are assumed to have data.max_length ({config.Data.MaxLength}) tokens.");
            return RunMemory.OfLongest(config, config.Model.Path);
        }
    }

    private static void WriteJson(RunMemory memory, RunMeasurement? measured, IReadOnlyList<RankMemory>? ranks, long? each)
    {
        var estimate = memory.Estimate;
        JsonLines.Write(new
        {
            weights = estimate.Weights,
            adapter = estimate.Adapter,
            reference = estimate.Compared,
            gradients = estimate.Gradients,
            optimizer = estimate.Optimizer,
            activations = estimate.Activations,
            sampling = estimate.Sampling,
            program = estimate.Program,
            peak = estimate.Total,
            needed = memory.Needed,
            available = memory.Room?.Bytes,
            fits = memory.Fits,
            change = memory.Change()?.Settings,
            devices = memory.PerDevice.Count == 0 ? null : memory.PerDevice.Select(static d => new { device = d.Device.ToString(), needed = d.Bytes, available = d.Free }),
            ranks = ranks?.Select(r => new { shard = r.Shard, weights = r.Weights, gradients = r.Gradients, optimizer = r.Optimizer, activations = r.Activations, other = r.Other, peak = r.Total, sent = r.Sent, fits = each is { } bytes ? r.FitsInto(bytes) : (bool?)null }),
            measured_peak = measured?.PeakBytes,
            seconds_per_step = measured?.SecondsPerStep,
            run_seconds = measured?.RunSeconds,
        });
    }

    private static void WriteText(RunMemory memory, RunMeasurement? measured)
    {
        var estimate = memory.Estimate;
        foreach (var (name, bytes) in new[]
        {
            ("weights", estimate.Weights), ("adapter", estimate.Adapter), ("reference", estimate.Compared), ("gradients", estimate.Gradients), ("optimizer", estimate.Optimizer),
            ("activations", estimate.Activations), ("sampling", estimate.Sampling), ("program", estimate.Program), ("peak", estimate.Total),
        })
        {
            if (bytes > 0 || name is not ("reference" or "sampling"))
            {
                Console.Out.WriteLine($"{name,-12}{Amount.Bytes(bytes),10}{(name == "sampling" ? "  of answers and their keys and values, while there are no gradients and activations" : "")}");
            }
        }

        if (memory.NeededByStart > estimate.Total)
        {
            Console.Out.WriteLine($"{"start",-12}{Amount.Bytes(memory.NeededByStart),10}  before the first step, for {memory.Start!.Name}");
        }

        if (memory.Room is { } room)
        {
            Console.Out.WriteLine($"{"available",-12}{Amount.Bytes(room.Bytes),10}  of {room.Where}");
        }

        foreach (var load in memory.PerDevice)
        {
            Console.Out.WriteLine($"{load.Device,-12}{Amount.Bytes(load.Bytes),10}{(load.Free is { } free ? $"  of {Amount.Bytes(free)}" : "")}");
        }

        if (measured is not null)
        {
            Console.Out.WriteLine($"{"measured",-12}{Amount.Bytes(measured.PeakBytes),10}  at most, with the longest rows");
            Console.Out.WriteLine($"{"a step",-12}{Amount.Number(measured.SecondsPerStep, "F2"),10}  seconds");
            Console.Out.WriteLine($"{"the run",-12}{Amount.Time(TimeSpan.FromSeconds(measured.RunSeconds)),10}  without evaluations and checkpoints");
        }

        if (!memory.Fits)
        {
            Console.Error.WriteLine($"warning: {memory.TooLarge}");
        }
    }
}
