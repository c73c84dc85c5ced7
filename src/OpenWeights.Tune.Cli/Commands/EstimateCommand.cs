using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt estimate.</summary>
internal static class EstimateCommand
{
    private static readonly Argument<string> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml" };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings in the place of the file's, such as training.micro_batch_size=1.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("estimate", "Gives the memory that a run will need, by part, before it runs.") { s_config, s_overrides, s_json };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var file = RunConfigFile.Open(arguments.GetValue(s_config)!, arguments.GetValue(s_overrides) ?? []);
        RunCheck.RequirePaths(file);
        var config = file.Config;
        _ = ModelPath.Resolve(config.Model.Path, new DownloadConsole(), Signals.Stop);
        using var run = TrainingRun.Prepare(config, new RunConsole(json: true));
        var memory = run.Plan.Memory;
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new
            {
                weights = memory.Weights,
                adapter = memory.Adapter,
                gradients = memory.Gradients,
                optimizer = memory.Optimizer,
                activations = memory.Activations,
                program = memory.Program,
                peak = memory.Total,
            });
            return ExitCode.Success;
        }

        foreach (var (name, bytes) in new[]
        {
            ("weights", memory.Weights), ("adapter", memory.Adapter), ("gradients", memory.Gradients), ("optimizer", memory.Optimizer),
            ("activations", memory.Activations), ("program", memory.Program), ("peak", memory.Total),
        })
        {
            Console.Out.WriteLine($"{name,-12}{Amount.Bytes(bytes),10}");
        }

        return ExitCode.Success;
    }
}
