using System.CommandLine;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt data preview.</summary>
internal static class DataCommand
{
    private const int ExtremesShown = 3;
    private static readonly Argument<string> s_config = new("config") { Description = "The run's YAML file.", HelpName = "CONFIG.yaml" };
    private static readonly Argument<string[]> s_overrides = new("settings") { Description = "Settings that override the file's, such as data.max_length=512.", HelpName = "key=value", Arity = ArgumentArity.ZeroOrMore };
    private static readonly Option<int> s_rows = CommonOptions.Number("--rows", "Number of rows to show.", 5, 0);
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var preview = new Command("preview", "Shows the rows as the model will see them, with the trained tokens marked, and statistics.") { s_config, s_overrides, s_rows, s_json };
        preview.SetAction(Preview);
        return new Command("data", "Inspects the data of a run.") { preview };
    }

    /// <summary>Reads and checks the data of a run, without its model.</summary>
    internal static (RunData Data, RowTokenizer Tokenizer) Read(RunConfig config, RowKind? kind)
    {
        HubData.Download(config.Data, new DownloadConsole(), Signals.Stop);
        var model = NewTokens.Folder(config.Model, ModelPath.Resolve(config.Model.Path, new DownloadConsole(), Signals.Stop));
        var tokenizer = new RowTokenizer(model, config.Data.TrainOn, NamedTemplates.Of(config, model), NamedTemplates.NameOf(config, model)) { Kind = ObjectiveKinds.Of(config.Objective).Rows, QueryPrompt = config.Objective.QueryPrompt ?? "", DocumentPrompt = config.Objective.DocumentPrompt ?? "" };
        var decoder = ModelLoader.ReadConfig(ModelFolder.Open(model));
        var data = RunData.Read(config.Data, tokenizer, decoder.VocabularySize + config.Model.NewTokens.Count, config.Seed, kind, ContextLimit.Of(decoder, config.Model.MaxPositions));
        return (RunDefaults.Fit(config, data).Data, tokenizer);
    }

    private static int Preview(ParseResult arguments)
    {
        var file = RunConfigFile.Inspect(arguments.GetValue(s_config)!, arguments.GetValue(s_overrides) ?? []);
        RunCheck.RequirePaths(file);
        var config = file.Config;
        var (data, rowTokenizer) = Read(config, ObjectiveKinds.Of(config.Objective).RowsOf(config.Objective) is RowKind.Prompts ? RowKind.Prompts : null);
        var tokenizer = data.Train.Report.IsTokenized && !rowTokenizer.HasTokenizer ? null : rowTokenizer.Tokenizer as Tokenizer;
        foreach (var warning in data.Warnings)
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        if (arguments.GetValue(s_json))
        {
            WriteJson(data, tokenizer, arguments.GetValue(s_rows));
        }
        else
        {
            WriteText(config, data, tokenizer, arguments.GetValue(s_rows));
        }

        return ExitCode.Success;
    }

    private static void WriteText(RunConfig config, RunData data, Tokenizer? tokenizer, int rows)
    {
        var lines = DataText.Lines("data", data.Train.Report, config.Data.MaxLength)
            .Concat(data.Eval is { } eval ? DataText.Lines("eval", eval.Report, config.Data.MaxLength) : [])
            .Append("")
            .Concat(DataText.Histogram(data.Train.Documents))
            .Append("")
            .Concat(DataText.Extremes(data.Train.Documents, ExtremesShown))
            .Append("");
        foreach (var line in lines)
        {
            Console.Out.WriteLine(line);
        }

        new RowPreview(Console.Out, tokenizer, RowPreview.HasColour).Write(data.Train.Rows, rows);
    }

    private static void WriteJson(RunData data, Tokenizer? tokenizer, int rows)
    {
        var report = data.Train.Report;
        var preview = new RowPreview(TextWriter.Null, tokenizer, inColour: false);
        JsonLines.Write(new
        {
            rows = report.Rows,
            tokens = report.Tokens,
            trained_tokens = report.TargetTokens,
            bad_rows = report.BadRows,
            truncated = report.Truncated,
            truncated_tokens = report.TruncatedTokens,
            dropped = report.Dropped,
            untrained = report.Untrained,
            split = report.Split,
            duplicates = report.Duplicates,
            longest = report.Longest,
            packed_rows = report.PackedRows,
            packed_rows_fewest_possible = report.FewestPackedRows,
            packed_efficiency = report.Efficiency,
            eval_rows = data.Eval?.Report.Used ?? 0,
            eval_rows_in_train = data.Eval?.Report.Leaked ?? 0,
            files = report.Files.Select(static f => new { path = f.Path, format = f.Format, rows = f.Rows }),
            preview = data.Train.Rows.Take(rows).Select(r => new { source = r.Source, role = r.Role.ToString().ToLowerInvariant(), label = r.Label, margin = r.Margin == 0 ? (double?)null : r.Margin, input_ids = r.Ids, labels = r.Labels, documents = r.Documents, text = preview.Text(r, 0, r.Ids.Length) }),
        });
    }
}
