using System.CommandLine;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
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
    private static readonly Option<int> s_batch = CommonOptions.Number("--batch-size", "Rows at once.", 4, 1);
    private static readonly Option<bool> s_json = CommonOptions.Json();
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        _ = s_trainOn.AcceptOnlyFromAmong("assistant", "completion", "all");
        var command = new Command("evaluate", "Gives loss, perplexity and token accuracy on rows.") { s_model, s_adapter, s_data, s_trainOn, s_batch, s_json, s_device, s_dtype, s_quantization, s_anyBase };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, arguments.GetValue(s_adapter) ?? [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization), arguments.GetValue(s_anyBase));
        var section = new DataSection { MaxLength = session.Model.Config.MaxPositions };
        var rows = DataSet.Read(
            [new DataSource { Path = arguments.GetValue(s_data)! }],
            section,
            new RowTokenizer(session.Loaded.Folder.FolderPath, arguments.GetValue(s_trainOn)!, session.ChatTemplate),
            session.Model.Config.VocabularySize,
            pack: false);
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
