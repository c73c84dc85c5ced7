using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt evaluate.</summary>
internal static class EvaluateCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters();
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string> s_data = new("--data") { Description = "The rows to measure on.", HelpName = "FILE", Required = true };
    private static readonly Option<string> s_trainOn = new("--train-on") { Description = "Which tokens count: assistant, completion or all.", DefaultValueFactory = static _ => "assistant" };
    private static readonly Option<string> s_format = new("--format") { Description = "What a row looks like; auto looks at the first one of each file.", DefaultValueFactory = static _ => "auto" };
    private static readonly Option<string[]> s_fields = new("--field") { Description = "What a field is called in the file, such as prompt=question; may be given several times.", HelpName = "NAME=THEIRS" };
    private static readonly Option<int> s_maxLength = CommonOptions.Number("--max-length", "The longest row, in tokens; left out, what the model has room for.", int.MaxValue, 2);
    private static readonly Option<string> s_overLength = new("--over-length") { Description = "What happens to a longer row: error, drop, truncate or split (plain text).", DefaultValueFactory = static _ => "error" };
    private static readonly Option<int?> s_maxPositions = new("--max-positions") { Description = "The longest text, in tokens, that the model may be given; left out, what max_position_embeddings of its config.json allows after rope scaling." };
    private static readonly Option<string> s_untrained = new("--untrained-rows") { Description = "What happens to a row in which nothing is measured: error or drop.", DefaultValueFactory = static _ => "error" };
    private static readonly Option<int> s_batch = CommonOptions.Number("--batch-size", "Rows at once.", 4, 1);
    private static readonly Option<bool> s_json = CommonOptions.Json();
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    // Messages about rows speak of the options in the settings' place.
    private static readonly SettingWords s_words = new(new Dictionary<string, string>
    {
        ["data.max_length"] = "--max-length",
        ["data.over_length"] = "--over-length",
        ["data.train_on"] = "--train-on",
        ["data.untrained_rows"] = "--untrained-rows",
        ["model.max_positions"] = "--max-positions",
        ["data.train.fields"] = "--field",
    });

    internal static Command Create()
    {
        _ = s_trainOn.OnlyFrom("assistant", "completion", "all");
        _ = s_format.OnlyFrom("auto", "chat", "instruction", "completion", "text", "preference", "tokenized");
        _ = s_overLength.OnlyFrom("error", "drop", "truncate", "split");
        _ = s_untrained.OnlyFrom("error", "drop");
        s_fields.Validators.Add(static result =>
        {
            foreach (var token in result.Tokens.Where(static t => t.Value.IndexOf('=', StringComparison.Ordinal) <= 0))
            {
                result.AddError($"--field: '{token.Value}' is no NAME=THEIRS, such as prompt=question.");
            }
        });
        s_maxPositions.Validators.Add(static result =>
        {
            if (CommonOptions.AreNumbers<int>(result) && result.GetValueOrDefault<int?>() < 2)
            {
                result.AddError("--max-positions must be at least 2.");
            }
        });
        var command = new Command("evaluate", "Gives loss, perplexity and token accuracy on rows.") { s_model, s_adapter, s_data, s_trainOn, s_format, s_fields, s_maxLength, s_overLength, s_maxPositions, s_untrained, s_batch, s_json, s_device, s_dtype, s_quantization, s_anyBase };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, arguments.GetValue(s_adapter) ?? [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization), arguments.GetValue(s_anyBase));
        var section = new DataSection { MaxLength = arguments.GetValue(s_maxLength), OverLength = arguments.GetValue(s_overLength)!, UntrainedRows = arguments.GetValue(s_untrained)! };
        var fields = (arguments.GetValue(s_fields) ?? []).Select(static f => f.Split('=', 2)).ToDictionary(static f => f[0], static f => f[1]);
        var rows = DataSet.Read(
            [new DataSource { Path = arguments.GetValue(s_data)!, Format = arguments.GetValue(s_format)!, Fields = fields }],
            section,
            new RowTokenizer(session.Loaded.Folder.FolderPath, arguments.GetValue(s_trainOn)!, session.ChatTemplate),
            session.Model.Config.VocabularySize,
            pack: false,
            arguments.GetValue(s_maxPositions) is { } most ? new ModelRoom(most, "--max-positions") : ModelRoom.Of(session.Model.Config),
            s_words);
        foreach (var warning in rows.Report.Warnings)
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        foreach (var change in rows.Report.Changes(section.MaxLength))
        {
            Console.Error.WriteLine(change);
        }

        var metrics = Evaluator.Run(session.Model, rows.Rows, arguments.GetValue(s_batch), 0, Signals.Stop);
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
        Console.Out.WriteLine($"perplexity      {Amount.Number(metrics.Perplexity, "F4")}");
        Console.Out.WriteLine($"token accuracy  {Amount.Percent(metrics.TokenAccuracy)}");
        Console.Out.WriteLine($"tokens          {Amount.Count(rows.Report.Tokens)}, {Amount.Count(metrics.TargetTokens)} of them predicted, in {Amount.Count(rows.Report.Rows)} rows");
        return ExitCode.Success;
    }
}
