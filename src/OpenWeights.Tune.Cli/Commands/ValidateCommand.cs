using System.CommandLine;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt validate.</summary>
internal static class ValidateCommand
{
    private static readonly Argument<string?> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml", Arity = ArgumentArity.ZeroOrOne };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings that override the file's, such as training.max_steps=10.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };

    private static readonly Option<bool> s_schema = new("--schema") { Description = "Print the JSON schema of the file, for editors." };

    private static readonly Option<bool> s_reference = new("--reference") { Description = "Print every setting as a page of Markdown." };

    private const string Unread = "Its rows and memory were not checked, because that needs the model's config and tokenizer.";

    // Sections that do not affect the rows: if they are invalid, rows can still be checked.
    private static readonly string[] s_besideRows = ["output_dir", "adapter", "quantization", "objective", "training", "checkpoint", "evaluation"];

    private static readonly string[] s_results = ["adapter", "model", "checkpoints"];
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("validate", "Lists all problems of a YAML file.") { s_config, s_overrides, s_schema, s_reference, s_json };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_config) is null && !result.GetValue(s_schema) && !result.GetValue(s_reference))
            {
                result.AddError("give a CONFIG.yaml, --schema, or --reference.");
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

        if (arguments.GetValue(s_reference))
        {
            Console.Out.Write(SettingsReference.Write());
            return ExitCode.Success;
        }

        var (path, json) = (arguments.GetValue(s_config)!, arguments.GetValue(s_json));
        var findings = new Findings();
        try
        {
            Check(RunConfigFile.Inspect(path, arguments.GetValue(s_overrides) ?? []), findings);
        }
        catch (ConfigException e)
        {
            findings.Problems.AddRange(e.Problems);
        }

        if (json)
        {
            WriteJson(path, findings);
        }
        else
        {
            WriteText(path, findings);
        }

        return findings.Problems.Count == 0 ? ExitCode.Success
            : findings.Problems.All(static p => p.IsFile) ? ExitCode.BadFiles
            : ExitCode.Usage;
    }

    private static void Check(ConfigFile file, Findings findings)
    {
        var config = file.Config;
        findings.Problems.AddRange(RunCheck.Problems(file));

        // Which rows are wanted is a question of the objective, which is not there where a class of the user's is wrong.
        if (findings.Problems.Any(p => (p.Key == "objective.type" && OwnClass.Is(config.Objective.Type)) || !s_besideRows.Contains(p.Key.Split('.')[0])))
        {
            return;
        }

        if (ModelPath.WouldDownload(config.Model.Path))
        {
            findings.Warn($"no folder {config.Model.Path} exists, so it is taken as a model on the Hugging Face Hub, which training will download (or use owt download first).{ModelPath.NearestCached(config.Model.Path)}");
            return;
        }

        try
        {
            Rows(config, findings);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or ChatTemplateException)
        {
            findings.AddRows(e.Message);
        }

        findings.Warnings.AddRange(Earlier(config.OutputDir));
    }

    // All rows are processed as in a run. Bad rows are skipped, so that the first does not hide the others.
    private static void Rows(RunConfig config, Findings findings)
    {
        var skipping = config with { Data = config.Data with { BadRows = "skip" } };
        var draft = findings.Problems.Count == 0 ? RunDraft.Read(skipping, findings, new RunOptions(SettingsAlone: true)) : null;
        var data = draft?.Data ?? DataCommand.Read(skipping, ObjectiveKinds.Of(skipping.Objective).RowsOf(skipping.Objective)).Data;
        var reports = new[] { data.Train.Report, data.Eval?.Report }.OfType<DataReport>().ToList();
        var bad = config.Data.BadRows == "error" ? reports.Sum(static r => r.BadRows) : 0;
        if (bad > 0)
        {
            reports.SelectMany(static r => r.BadExamples).ToList().ForEach(findings.AddRows);
            findings.AddRows($"{bad} bad {(bad == 1 ? "row" : "rows")} in all; fix them, or set data.bad_rows to skip.");
        }

        if (draft?.MemoryProblem is { } memory)
        {
            findings.Problems.Add(memory);
        }

        findings.Data = data;
        findings.MaxLength = config.Data.MaxLength;
    }

    private static IEnumerable<string> Earlier(string folder) =>
        s_results.Any(name => Directory.Exists(Path.Combine(folder, name)))
            ? [$"{folder} contains an earlier run; train with --resume to continue it, or with --overwrite to start over."]
            : [];

    private static void WriteText(string path, Findings findings)
    {
        foreach (var problem in findings.Problems)
        {
            Console.Error.WriteLine($"error: {(problem.Place.Length == 0 ? problem.Message : problem)}");
        }

        foreach (var warning in findings.Warnings)
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        if (findings.Problems.Count > 0)
        {
            return;
        }

        Console.Out.WriteLine(findings.Data is null ? $"{path}: the settings are valid. {Unread}" : $"{path}: valid.");
        foreach (var (name, report) in new[] { ("data", findings.Data?.Train.Report), ("eval", findings.Data?.Eval?.Report) })
        {
            foreach (var line in report is null ? [] : DataText.Lines(name, report, findings.MaxLength))
            {
                Console.Out.WriteLine(line);
            }
        }
    }

    private static void WriteJson(string path, Findings findings) => JsonLines.Write(new
    {
        config = path,
        valid = findings.Problems.Count == 0,
        problems = findings.Problems.Select(static p => new { place = p.Place, key = p.Key, message = p.Message }),
        warnings = findings.Problems.Count == 0 && findings.Data is null ? [.. findings.Warnings, Unread] : findings.Warnings,
        rows = findings.Data?.Train.Report.Rows,
        eval_rows = findings.Data?.Eval?.Report.Used,
    });

    // Collects the findings, also as the listener of what reads the run.
    private sealed class Findings : IRunListener
    {
        internal List<ConfigProblem> Problems { get; } = [];

        internal List<string> Warnings { get; } = [];

        internal RunData? Data { get; set; }

        internal int MaxLength { get; set; }

        internal void AddRows(string problem) => Problems.Add(new ConfigProblem("", "data", problem) { IsFile = true });

        public void Warn(string message) => Warnings.Add(message);

        public void Stage(string what)
        {
        }

        public void Planned(RunPlan plan)
        {
        }

        public void Stepped(StepMetrics metrics, long totalSteps)
        {
        }

        public void Evaluated(EvaluationMetrics metrics)
        {
        }

        public void Checkpointed(long step)
        {
        }

        public void Answered(AnswerScores scores, IReadOnlyList<Answer> answers)
        {
        }
    }
}
