using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Ranks;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt train.</summary>
internal static class TrainCommand
{
    private const int RowsShown = 3;
    private static readonly Argument<string> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml" };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings that override the file's, such as training.max_steps=10.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };
    private static readonly Option<bool> s_resume = new("--resume") { Description = "Continue from the latest complete checkpoint in the run's folder." };
    private static readonly Option<bool> s_overwrite = new("--overwrite") { Description = "Delete an earlier run in the run's folder and start over." };
    private static readonly Option<bool> s_force = new("--force") { Description = "Train even if the run does not fit into the available memory." };
    private static readonly Option<bool> s_dryRun = new("--dry-run") { Description = "Check everything, and print the plan and some rows without training." };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("train", "Trains as described in a YAML file.") { s_config, s_overrides, s_resume, s_overwrite, s_force, s_dryRun, s_json };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_resume) && result.GetValue(s_overwrite))
            {
                result.AddError("--resume and --overwrite contradict each other: --resume continues the run in the folder, --overwrite deletes it. Use one of them.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        RankStart.Prepare();
        TorchSupplier.Current.LoadAhead();
        var file = RunConfigFile.Inspect(arguments.GetValue(s_config)!, arguments.GetValue(s_overrides) ?? []);
        RunCheck.Require(file);
        if (arguments.GetValue(s_dryRun))
        {
            return Train(arguments, file, null);
        }

        using var ranks = RunRanks.Join(file.Config.Model.Device.Values[0]);
        return ranks.Guard(() => Train(arguments, file, ranks));
    }

    private static int Train(ParseResult arguments, ConfigFile file, RunRanks? ranks)
    {
        var (config, console) = (file.Config, new RunConsole(arguments.GetValue(s_json)));
        var (resume, overwrite, json, isFirst) = (arguments.GetValue(s_resume), arguments.GetValue(s_overwrite), arguments.GetValue(s_json), ranks?.IsFirst != false);
        var finished = resume && ranks is not { Count: > 1 } ? RunFolder.Finished(config) : null;
        if (finished is not null)
        {
            console.AlreadyFinished(finished);
            return ExitCode.Success;
        }

        if (ranks is not null && isFirst)
        {
            // Before minutes are spent on data and weights.
            RunFolder.RequireFree(config, resume, overwrite);
            RunFolder.RequireWritable(config.OutputDir);
        }

        if (ranks is null)
        {
            Download(config, file);
        }
        else
        {
            ranks.OncePerHost(() => Download(config, file));
        }

        var options = new RunOptions(resume, IgnoreMemory: arguments.GetValue(s_force));
        if (ranks is null)
        {
            return DryRun(config, console, options, json);
        }

        if (!isFirst)
        {
            using var share = TrainingRun.Prepare(config, console, ranks.Of(options));
            _ = share.Run(overwrite, Environment.CommandLine, Signals.Stop);
            return share.IsStopped ? ExitCode.Stopped : ExitCode.Success;
        }

        var result = console.Show(() =>
        {
            using var run = TrainingRun.Prepare(config, console, ranks.Of(options));
            finished = resume ? RunFolder.Finished(config, run.Plan.TotalSteps, ranks.Count) : null;
            if (finished is not null && ranks.Count == 1)
            {
                return finished;
            }

            Signals.Answer = "stopping after this step and saving";
            _ = run.Run(overwrite, Environment.CommandLine, Signals.Stop);
            return run.Result;
        });
        if (result is null)
        {
            console.Stop();
            Console.Error.WriteLine($"stopped; continue with --resume. The checkpoints are in {ShownPath.Of(Path.Combine(config.OutputDir, "checkpoints"))}.");
            return ExitCode.Stopped;
        }

        if (finished is not null)
        {
            console.AlreadyFinished(finished);
        }
        else
        {
            console.Finish(result);
        }

        return ExitCode.Success;
    }

    // The models that the run reads, if they are on the Hub and not here.
    private static void Download(RunConfig config, ConfigFile file)
    {
        if (ModelPath.WouldDownload(config.Model.Path))
        {
            _ = ModelPath.Resolve(config.Model.Path, new DownloadConsole(), Signals.Stop);
            RunCheck.Require(file);
        }

        foreach (var compared in new[] { config.Objective.Teacher, config.Objective.Reference }.OfType<string>().Where(static m => m is not ("start" or "base") && ModelPath.WouldDownload(m)))
        {
            _ = ModelPath.Resolve(compared, new DownloadConsole(), Signals.Stop);
        }

        HubData.Download(config.Data, new DownloadConsole(), Signals.Stop);
    }

    private static int DryRun(RunConfig config, RunConsole console, RunOptions options, bool json)
    {
        var draft = RunDraft.Read(config, console, options);
        var plan = draft.Plan;
        if (json)
        {
            if (!draft.Memory.Fits)
            {
                Console.Error.WriteLine($"warning: {draft.Memory.TooLarge}");
            }

            JsonLines.Write(PlanJson.Of(plan, draft.Data.Train.Rows, RowsShown));
            return ExitCode.Success;
        }

        foreach (var line in PlanText.Lines(plan))
        {
            Console.Out.WriteLine(line);
        }

        if (!draft.Memory.Fits)
        {
            Console.Error.WriteLine($"warning: {draft.Memory.TooLarge}");
        }

        var tokenizer = plan.Train.IsTokenized ? null : draft.RowTokenizer.Tokenizer as OpenWeights.Tokenizers.Tokenizer;
        new RowPreview(Console.Out, tokenizer, RowPreview.HasColour).Write(draft.Data.Train.Rows, RowsShown);
        return ExitCode.Success;
    }
}
