using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Generation;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Export.Comparison;

/// <summary>What a reader makes of compared rows: a model with the tokenizer, the template and the end tokens that lie beside it.</summary>
/// <param name="Loss">The mean cross entropy of the rows' trained tokens; null where none of them could be read.</param>
/// <param name="Exact">How many answers are exactly right.</param>
/// <param name="Asked">How many rows were asked.</param>
/// <param name="Prompts">The token ids of the prompts.</param>
/// <param name="EndTokens">The tokens that end an answer.</param>
/// <param name="Answers">The answers.</param>
public sealed record ReaderResult(double? Loss, int Exact, int Asked, IReadOnlyList<int[]> Prompts, IReadOnlyList<int> EndTokens, IReadOnlyList<Answer> Answers)
{
    private const int BatchSize = 4;

    /// <summary>Lets a reader answer and score rows.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="model">The model, with whatever is on it.</param>
    /// <param name="folder">The folder with the reader's own tokenizer, template and settings.</param>
    /// <param name="stop">Stops between answers.</param>
    /// <exception cref="IOException">The folder has no tokenizer.</exception>
    public static ReaderResult Of(ComparedRows rows, CausalLanguageModel model, ModelFolder folder, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(folder);
        var tokenizer = new RowTokenizer(folder.FolderPath, rows.TrainOn);
        var longest = model.Config.MaxPositions;
        var tokens = rows.Rows.SelectMany(r => Tokens(r.Format, r.Row, tokenizer)).Where(r => r.Ids.Length <= longest && r.CountTargets() > 0).ToList();
        double? loss = tokens.Count == 0 ? null : Evaluator.Run(model, tokens, BatchSize, 0, stop).Loss;
        if (!tokenizer.HasTokenizer)
        {
            return new ReaderResult(loss, 0, 0, [], folder.EosTokenIds, []);
        }

        var ends = Generation.EndTokens.Of(folder, tokenizer.Tokenizer);
        var questions = QuestionSet.Of(rows.Rows, tokenizer, ends);
        var answers = questions.Count == 0 ? [] : questions.Ask(model, rows.MaxNewTokens, stop);
        return new ReaderResult(loss, answers.Count(static a => a.IsExact), answers.Count, questions.Prompts, ends, answers);
    }

    // A row that the reader's template refuses is none for it; the loss then says so.
    private static IReadOnlyList<TokenRow> Tokens(Data.Formats.IRowFormat format, DataRow row, RowTokenizer tokenizer)
    {
        try
        {
            return format.Read(row, tokenizer);
        }
        catch (Exception e) when (e is InvalidDataException or ChatTemplateException or InvalidOperationException)
        {
            return [];
        }
    }
}
