using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>Rows whose last answer is replaced by a sampled one.</summary>
internal static class AnsweredRows
{
    /// <summary>The first token of the last trained part; 0 if there is none, or nothing before it, so that nothing can be answered.</summary>
    /// <param name="row">A row of one document.</param>
    internal static int AnswerStart(TokenRow row)
    {
        var start = Array.FindLastIndex(row.Labels, static l => l != TokenRow.Ignored);
        while (start > 0 && row.Labels[start - 1] != TokenRow.Ignored)
        {
            start--;
        }

        return Math.Max(0, start);
    }

    /// <summary>What an answer is sampled to.</summary>
    /// <param name="row">A row of one document.</param>
    internal static int[] Prompt(TokenRow row) => row.Ids[..AnswerStart(row)];

    /// <summary>A row with other answers; a packed row stays one, and what cannot be answered stays as it is.</summary>
    /// <param name="row">The row.</param>
    /// <param name="answer">Gives the answer to a document, in their order.</param>
    internal static TokenRow With(TokenRow row, Func<TokenRow, IReadOnlyList<int>> answer)
    {
        List<TokenRow> documents = [.. row.EachDocument().Select(d => AnswerStart(d) is > 0 and var start ? With(d, start, answer(d)) : d)];
        return documents.Count == 1 ? documents[0] : Packer.Join(documents);
    }

    private static TokenRow With(TokenRow row, int start, IReadOnlyList<int> answer) =>
        new([.. row.Ids[..start], .. answer], [.. Enumerable.Repeat(TokenRow.Ignored, start), .. answer], row.Source);
}
