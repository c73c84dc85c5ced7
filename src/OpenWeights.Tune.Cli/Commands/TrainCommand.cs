using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt train.</summary>
internal static class TrainCommand
{
    private const int RowsShown = 3;
    private static readonly Argument<string> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml" };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings in the place of the file's, such as training.max_steps=10.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };
    private static readonly Option<bool> s_resume = new("--resume") { Description = "Go on from the newest whole checkpoint of the run's folder." };
    private static readonly Option<bool> s_overwrite = new("--overwrite") { Description = "Start over where the run's folder holds an unfinished run." };
    private static readonly Option<bool> s_dryRun = new("--dry-run") { Description = "Check everything, print the plan and some rows, and train nothing." };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("train", "Trains as a YAML file says.") { s_config, s_overrides, s_resume, s_overwrite, s_dryRun, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        TorchSupplier.Current.LoadAhead();
        var file = RunConfigFile.Open(arguments.GetValue(s_config)!, arguments.GetValue(s_overrides) ?? []);
        var config = file.Config;
        var console = new RunConsole(arguments.GetValue(s_json));
        RunCheck.Require(file);
        if (ModelPath.WouldDownload(config.Model.Path))
        {
            _ = ModelPath.Resolve(config.Model.Path, new DownloadConsole(), Signals.Stop);
            RunCheck.Require(file);
        }

        if (arguments.GetValue(s_dryRun))
        {
            return DryRun(config, console, arguments.GetValue(s_json));
        }

        var result = console.Show(() =>
        {
            using var run = TrainingRun.Prepare(config, console);
            return run.Run(arguments.GetValue(s_resume), arguments.GetValue(s_overwrite), Environment.CommandLine, Signals.Stop);
        });
        if (result is null)
        {
            console.Stop();
            Console.Error.WriteLine($"stopped; go on with --resume. The checkpoints are in {Path.Combine(config.OutputDir, "checkpoints")}.");
            return ExitCode.Stopped;
        }

        console.Finish(result);
        return ExitCode.Success;
    }

    private static int DryRun(RunConfig config, RunConsole console, bool json)
    {
        using var run = TrainingRun.Prepare(config, console);
        var plan = run.Plan;
        if (json)
        {
            JsonLines.Write(PlanJson.Of(plan, run.Rows, RowsShown));
            return ExitCode.Success;
        }

        foreach (var line in PlanText.Lines(plan))
        {
            Console.Out.WriteLine(line);
        }

        var tokenizer = plan.Train.IsTokenized ? null : run.RowTokenizer.Tokenizer as OpenWeights.Tokenizers.Tokenizer;
        new RowPreview(Console.Out, tokenizer, RowPreview.HasColour).Write(run.Rows, RowsShown);
        return ExitCode.Success;
    }
}
