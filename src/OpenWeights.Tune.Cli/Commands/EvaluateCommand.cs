using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt evaluate.</summary>
internal static class EvaluateCommand
{
    private static readonly ModelOptions s_model = new();
    private static readonly Option<string> s_data = new("--data") { Description = "Rows to evaluate on.", HelpName = "FILE", Required = true };
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
        var command = new Command("evaluate", "Computes loss, perplexity and token accuracy on rows.");
        s_model.AddTo(command, [s_data, .. s_rows.All, s_trainOn, s_maxLength, s_overLength, s_maxPositions, s_badRows, s_untrained, s_batch, s_json]);
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = s_model.Open(arguments);
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
}
