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
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("estimate", "Estimates the memory of a run, by part; the model's config.json or its name on the Hub is enough.") { s_config, s_overrides, s_measure, s_json };
        command.SetAction(Run);
        return command;
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
        if (arguments.GetValue(s_json))
        {
            WriteJson(memory, measured);
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

    private static void WriteJson(RunMemory memory, RunMeasurement? measured)
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
            program = estimate.Program,
            peak = estimate.Total,
            needed = memory.Needed,
            available = memory.Room?.Bytes,
            fits = memory.Fits,
            change = memory.Change()?.Settings,
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
            ("activations", estimate.Activations), ("program", estimate.Program), ("peak", estimate.Total),
        })
        {
            if (bytes > 0 || name != "reference")
            {
                Console.Out.WriteLine($"{name,-12}{Amount.Bytes(bytes),10}");
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
