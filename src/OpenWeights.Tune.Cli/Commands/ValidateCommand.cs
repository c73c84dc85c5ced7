using System.CommandLine;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt validate.</summary>
internal static class ValidateCommand
{
    private static readonly Argument<string?> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml", Arity = ArgumentArity.ZeroOrOne };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings in the place of the file's, such as training.max_steps=10.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };

    private static readonly Option<bool> s_schema = new("--schema") { Description = "Print the JSON schema of such files instead, for editors." };

    private static readonly string[] s_results = ["adapter", "model", "checkpoints"];
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("validate", "Tells everything that is wrong with a YAML file.") { s_config, s_overrides, s_schema, s_json };
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

        var (path, json) = (arguments.GetValue(s_config)!, arguments.GetValue(s_json));
        try
        {
            var file = RunConfigFile.Open(path, arguments.GetValue(s_overrides) ?? []);
            RunCheck.Require(file);
            return Checked(path, file.Config, json);
        }
        catch (ConfigException e) when (json)
        {
            Write(path, e.Problems, [], null);
            return e.Problems.All(static p => p.IsFile) ? ExitCode.BadFiles : ExitCode.Usage;
        }
        catch (Exception e) when (json && e is InvalidDataException or IOException or ChatTemplateException)
        {
            Write(path, [new ConfigProblem("", "data", e.Message) { IsFile = true }], [], null);
            return ExitCode.BadFiles;
        }
    }

    private static int Checked(string path, RunConfig config, bool json)
    {
        if (ModelPath.WouldDownload(config.Model.Path))
        {
            var notice = $"there is no folder {config.Model.Path} here, so it is taken for a model on the Hugging Face Hub, which training would download (owt download does it before).{ModelPath.NearestCached(config.Model.Path)}";
            const string unread = "Its rows are not checked, since that takes the model's tokenizer.";
            if (json)
            {
                Write(path, [], [notice, unread], null);
                return ExitCode.Success;
            }

            Console.Error.WriteLine($"{path}: {notice}");
            Console.Out.WriteLine($"{path}: nothing is wrong with its settings. {unread}");
            return ExitCode.Success;
        }

        return Data(path, config, json);
    }

    // All rows go through everything that a run would do to them. Bad ones are skipped here, so that the first does not hide the others.
    private static int Data(string path, RunConfig config, bool json)
    {
        var (data, _) = DataCommand.Read(config with { Data = config.Data with { BadRows = "skip" } }, preferences: false);
        var reports = new[] { data.Train.Report, data.Eval?.Report }.OfType<DataReport>().ToList();
        var bad = config.Data.BadRows == "error" ? reports.Sum(static r => r.BadRows) : 0;
        string[] problems = bad == 0 ? []
            : [.. reports.SelectMany(static r => r.BadExamples), $"{bad} bad {(bad == 1 ? "row" : "rows")} in all; mend them, or set data.bad_rows to skip."];
        List<string> warnings = [.. data.Warnings, .. Earlier(config.OutputDir)];
        if (json)
        {
            Write(path, [.. problems.Select(static p => new ConfigProblem("", "data", p) { IsFile = true })], warnings, data);
            return bad == 0 ? ExitCode.Success : ExitCode.BadFiles;
        }

        foreach (var line in problems.Select(static p => $"error: {p}").Concat(bad == 0 ? warnings.Select(static w => $"warning: {w}") : []))
        {
            Console.Error.WriteLine(line);
        }

        if (bad > 0)
        {
            return ExitCode.BadFiles;
        }

        Console.Out.WriteLine($"{path}: nothing is wrong with it.");
        foreach (var line in DataText.Lines("data", data.Train.Report, config.Data.MaxLength)
            .Concat(data.Eval is { } eval ? DataText.Lines("eval", eval.Report, config.Data.MaxLength) : []))
        {
            Console.Out.WriteLine(line);
        }

        return ExitCode.Success;
    }

    private static IEnumerable<string> Earlier(string folder) =>
        s_results.Any(name => Directory.Exists(Path.Combine(folder, name)))
            ? [$"{folder} holds an earlier run; train goes on with --resume, starts over with --overwrite, and refuses otherwise."]
            : [];

    private static void Write(string path, IReadOnlyList<ConfigProblem> problems, IEnumerable<string> warnings, RunData? data) => JsonLines.Write(new
    {
        config = path,
        valid = problems.Count == 0,
        problems = problems.Select(static p => new { place = p.Place, key = p.Key, message = p.Message }),
        warnings,
        rows = data?.Train.Report.Rows,
        eval_rows = data?.Eval?.Report.Used,
    });
}
