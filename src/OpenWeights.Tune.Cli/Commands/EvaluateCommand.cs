using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Evaluation.Tasks;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt evaluate.</summary>
internal static class EvaluateCommand
{
    private const string UsualMetrics = "exact_match,bleu,chrf,rouge1,rougeL";

    private static readonly ModelOptions s_model = new();
    private static readonly Option<string?> s_data = new("--data") { Description = "Rows to evaluate on.", HelpName = "FILE" };
    private static readonly Option<string?> s_tasks = new("--tasks") { Description = "Tasks to evaluate on: a YAML file that lists them, or a data file of questions (multiple choice, exact match, or GSM8K's).", HelpName = "FILE" };
    private static readonly Option<bool> s_generate = new("--generate") { Description = "Generate answers to the rows of --data, greedily, and compare them with those of the rows." };
    private static readonly Option<string> s_metrics = new("--metrics") { Description = $"Metrics of generated answers, with commas between them: {string.Join(", ", AnswerMetric.All.Select(static m => m.Name))}.", HelpName = "NAMES", DefaultValueFactory = static _ => UsualMetrics };
    private static readonly Option<bool> s_stemmer = new("--stemmer") { Description = "Compare the stems of words (Porter) in ROUGE." };
    private static readonly Option<int> s_maxNewTokens = CommonOptions.Number("--max-new-tokens", "Maximum length of a generated answer to a row of --data, in tokens.", 128, 1);
    private static readonly Option<string?> s_samples = new("--samples") { Description = "Also write each question with the answer of each model, as JSON lines.", HelpName = "FILE" };
    private static readonly Option<bool> s_noBase = new("--no-base") { Description = "With --tasks or --generate and an adapter: leave the base model out, which is otherwise evaluated beside it." };
    private static readonly DataOptions s_rows = new();
    private static readonly Option<string> s_trainOn = new("--train-on") { Description = "Which tokens count: assistant, final (without reasoning), reasoning (with all of it), completion or all.", DefaultValueFactory = static _ => "assistant" };
    private static readonly Option<int?> s_maxLength = CommonOptions.Number<int>("--max-length", "Maximum row length, in tokens; by default the model's context length.", 2);
    private static readonly Option<string> s_overLength = new("--over-length") { Description = "What to do with a longer row: error, drop, truncate or split (plain text).", DefaultValueFactory = static _ => "error" };
    private static readonly Option<int?> s_maxPositions = CommonOptions.Number<int>("--max-positions", "Context length of the model, in tokens; by default max_position_embeddings of its config.json, after RoPE scaling.", 2);
    private static readonly Option<string> s_badRows = new("--bad-rows") { Description = "What to do with a row that cannot be read: error, or skip (counted).", DefaultValueFactory = static _ => "error" };
    private static readonly Option<string> s_untrained = new("--untrained-rows") { Description = "What to do with a row without target tokens: error, or drop (counted).", DefaultValueFactory = static _ => "error" };
    private static readonly Option<int> s_batch = CommonOptions.Number("--batch-size", "Batch size, in rows.", 4, 1);
    private static readonly Option<bool> s_json = CommonOptions.Json();

    // Messages about rows name the options instead of the settings.
    private static readonly SettingNames s_words = new(new Dictionary<string, string>(DataOptions.Words)
    {
        ["data.max_length"] = "--max-length",
        ["data.over_length"] = "--over-length",
        ["data.train_on"] = "--train-on",
        ["data.untrained_rows"] = "--untrained-rows",
        ["model.max_positions"] = "--max-positions",
    });

    internal static Command Create()
    {
        _ = s_trainOn.OnlyFrom("assistant", "final", "reasoning", "completion", "all");
        _ = s_overLength.OnlyFrom("error", "drop", "truncate", "split");
        _ = s_badRows.OnlyFrom("error", "skip");
        _ = s_untrained.OnlyFrom("error", "drop");
        var command = new Command("evaluate", "Computes loss, perplexity and token accuracy on rows, or scores of generated answers, or of tasks.");
        s_model.AddTo(command, [s_data, .. s_rows.All, s_generate, s_metrics, s_stemmer, s_maxNewTokens, s_tasks, s_samples, s_noBase, s_trainOn, s_maxLength, s_overLength, s_maxPositions, s_badRows, s_untrained, s_batch, s_json]);
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_data) is null == result.GetValue(s_tasks) is null)
            {
                result.AddError("give one of --data and --tasks.");
            }
            else if (result.GetValue(s_tasks) is not null && result.GetValue(s_generate))
            {
                result.AddError("--generate requires --data; the tasks of --tasks say themselves what is generated.");
            }
            else if (result.GetValue(s_samples) is not null && result.GetValue(s_tasks) is null && !result.GetValue(s_generate))
            {
                result.AddError("--samples requires --tasks or --generate.");
            }

            var known = AnswerMetric.All.Select(static m => m.Name).ToList();
            foreach (var name in Split(result.GetValue(s_metrics) ?? UsualMetrics).Where(n => !known.Contains(n) && !OwnClass.Is(n)))
            {
                result.AddError($"--metrics: '{name}' is not a metric; metrics are {string.Join(", ", known)}, or {OwnClass.Written}.{Spelling.DidYouMean(name, known)}");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var samples = arguments.GetValue(s_samples) is { } path ? CommonOptions.NewOutput(path, "--samples") : null;
        if (arguments.GetValue(s_tasks) is { } tasks)
        {
            var list = TaskFile.Read(tasks);
            using var asked = s_model.Open(arguments);
            return new EvaluateTasks(asked, arguments.GetValue(s_batch), !arguments.GetValue(s_noBase), samples).Run(list, arguments.GetValue(s_json));
        }

        using var session = s_model.Open(arguments);
        if (arguments.GetValue(s_generate))
        {
            var chosen = Split(arguments.GetValue(s_metrics)!).Distinct().Select(static n => AnswerMetric.Find(n, new EvaluationSection())!).ToList();
            return new EvaluateAnswers(session, chosen, arguments.GetValue(s_stemmer), !arguments.GetValue(s_noBase), samples)
                .Run(s_rows.Read(arguments, arguments.GetValue(s_data)!), arguments.GetValue(s_maxNewTokens), arguments.GetValue(s_json));
        }

        var section = new DataSection { Train = [s_rows.Read(arguments, arguments.GetValue(s_data)!)], Packing = false, MaxLength = arguments.GetValue(s_maxLength) ?? int.MaxValue, OverLength = arguments.GetValue(s_overLength)!, BadRows = arguments.GetValue(s_badRows)!, UntrainedRows = arguments.GetValue(s_untrained)! };
        var rows = RunData.Read(
            section,
            new RowTokenizer(session.Loaded.Folder.FolderPath, arguments.GetValue(s_trainOn)!, session.ChatTemplate),
            session.Model.VocabularySize,
            seed: 0,
            room: arguments.GetValue(s_maxPositions) is { } most ? new ContextLimit(most, "--max-positions") : ContextLimit.Of(session.Model.Config),
            words: s_words).Train;
        foreach (var warning in rows.Report.Warnings)
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        foreach (var change in rows.Report.Changes(section.MaxLength))
        {
            Console.Error.WriteLine(change);
        }

        var metrics = Evaluator.Run(session.Model, rows.Rows, arguments.GetValue(s_batch), 0, Signals.Stop);
        if (!double.IsFinite(metrics.Loss))
        {
            ModelSession.Warn(ModelSession.NotFinite);
        }

        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new
            {
                loss = metrics.Loss,
                perplexity = metrics.Perplexity,
                token_accuracy = metrics.TokenAccuracy,
                target_tokens = metrics.TargetTokens,
                tokens = rows.Report.Tokens,
                rows = rows.Report.Rows,
            });
            return ExitCode.Success;
        }

        Console.Out.WriteLine($"loss            {Amount.Number(metrics.Loss, "F6")}");
        Console.Out.WriteLine($"perplexity      {Amount.Number(metrics.Perplexity ?? double.NaN, "F4")}");
        Console.Out.WriteLine($"token accuracy  {Amount.Percent(metrics.TokenAccuracy ?? double.NaN)}");
        Console.Out.WriteLine($"tokens          {Amount.Count(rows.Report.Tokens)}, {Amount.Count(metrics.TargetTokens)} of them predicted, in {Amount.Count(rows.Report.Rows)} rows");
        return ExitCode.Success;
    }

    private static string[] Split(string names) => names.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
}
