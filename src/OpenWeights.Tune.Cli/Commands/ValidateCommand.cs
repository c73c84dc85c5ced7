using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt validate.</summary>
internal static class ValidateCommand
{
    private static readonly Argument<string?> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml", Arity = ArgumentArity.ZeroOrOne };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings in the place of the file's, such as training.max_steps=10.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };

    private static readonly Option<bool> s_schema = new("--schema") { Description = "Print the JSON schema of such files instead, for editors." };

    internal static Command Create()
    {
        var command = new Command("validate", "Tells everything that is wrong with a YAML file.") { s_config, s_overrides, s_schema };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_config) is null && !result.GetValue(s_schema))
            {
                result.AddError("give a CONFIG.yaml, or --schema.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        if (arguments.GetValue(s_schema))
        {
            Console.Out.Write(ConfigSchema.Write());
            return ExitCode.Success;
        }

        var path = arguments.GetValue(s_config)!;
        var config = RunConfigFile.Read(path, arguments.GetValue(s_overrides) ?? []);
        var missing = config.Data.Train.Concat(config.Data.Eval).Select(static s => s.Path).Where(static p => p.Length > 0 && !DataPaths.HasWildcard(p) && !Path.Exists(p))
            .Concat(Path.Exists(config.Model.Path) || ModelPath.IsOnHub(config.Model.Path) ? [] : [config.Model.Path])
            .Concat(config.Adapter?.Path is { } adapter && !Directory.Exists(adapter) ? [adapter] : [])
            .ToList();
        foreach (var file in missing)
        {
            Console.Error.WriteLine($"error: {path}: {file} is not there.");
        }

        if (missing.Count > 0)
        {
            return ExitCode.BadFiles;
        }

        if (ModelPath.WouldDownload(config.Model.Path))
        {
            Console.Error.WriteLine($"{path}: there is no folder {config.Model.Path} here, so it is taken for a model on the Hugging Face Hub, which training would download (owt download does it before).");
            Console.Out.WriteLine($"{path}: nothing is wrong with its settings. Its rows are not checked, since that takes the model's tokenizer.");
            return ExitCode.Success;
        }

        return Data(path, config);
    }

    // All rows go through everything that a run would do to them. Bad ones are skipped here, so that the first does not hide the others.
    private static int Data(string path, RunConfig config)
    {
        var (data, _) = DataCommand.Read(config with { Data = config.Data with { BadRows = "skip" } }, preferences: false);
        var reports = new[] { data.Train.Report, data.Eval?.Report }.OfType<DataReport>().ToList();
        if (config.Data.BadRows == "error" && reports.Sum(static r => r.BadRows) is > 0 and var bad)
        {
            foreach (var example in reports.SelectMany(static r => r.BadExamples))
            {
                Console.Error.WriteLine($"error: {example}");
            }

            Console.Error.WriteLine($"error: {bad} bad {(bad == 1 ? "row" : "rows")} in all; mend them, or set data.bad_rows to skip.");
            return ExitCode.BadFiles;
        }

        foreach (var warning in data.Warnings)
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        Console.Out.WriteLine($"{path}: nothing is wrong with it.");
        foreach (var line in DataText.Lines("data", data.Train.Report, config.Data.MaxLength)
            .Concat(data.Eval is { } eval ? DataText.Lines("eval", eval.Report, config.Data.MaxLength) : []))
        {
            Console.Out.WriteLine(line);
        }

        return ExitCode.Success;
    }
}
