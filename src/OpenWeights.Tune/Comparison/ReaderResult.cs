using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Comparison;

/// <summary>Results of a reader on the compared rows.</summary>
/// <param name="Reader">Name of the program that read the model.</param>
/// <param name="Loss">Mean cross entropy of the rows' trained tokens; null if no row could be used.</param>
/// <param name="Exact">Number of exactly correct answers.</param>
/// <param name="Asked">Number of rows to answer.</param>
/// <param name="Prompts">Token ids of the prompts.</param>
/// <param name="EndTokens">Tokens that end an answer.</param>
/// <param name="LeftOut">Rows that the reader could not use.</param>
internal sealed record ReaderResult(
    string Reader, double? Loss, int Exact, int Asked, IReadOnlyList<int[]> Prompts, IReadOnlyList<int> EndTokens, IReadOnlyList<LeftOutRow> LeftOut)
{
    /// <summary>Scores and answers rows with a reader.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="reader">The reader.</param>
    /// <param name="stop">Cancels between answers.</param>
    public static ReaderResult Of(ComparedRows rows, IModelReader reader, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(reader);
        var tokenizer = reader.Rows(rows.TrainOn);
        var (kept, tokens, leftOut) = (new List<(Data.Formats.IRowFormat, DataRow)>(), new List<TokenRow>(), new List<LeftOutRow>());
        foreach (var row in rows.Rows)
        {
            if (Tokens(row.Format, row.Row, tokenizer, reader, out var read) is { } why)
            {
                leftOut.Add(new LeftOutRow(row.Row.Place, why, read.Count == 0 ? 0 : read.Max(static r => r.Ids.Length)));
            }
            else
            {
                kept.Add(row);
                tokens.AddRange(read);
            }
        }

        double? loss = tokens.Count == 0 ? null : reader.Loss(tokens, stop);
        if (reader.Tokenizer is null)
        {
            return new ReaderResult(reader.Name, loss, 0, 0, [], reader.EndTokens, leftOut);
        }

        var questions = EvaluationGenerations.Of(kept, tokenizer, reader.EndTokens);
        var answers = questions.Count == 0 ? [] : questions.Generate(reader.Room?.Tokens ?? int.MaxValue, prompts => reader.Continue(prompts, rows.MaxNewTokens, stop));
        return new ReaderResult(reader.Name, loss, answers.Count(static a => a.IsExact), answers.Count, questions.Prompts, reader.EndTokens, leftOut);
    }

    // Why the reader cannot use a row; null if it can.
    private static string? Tokens(Data.Formats.IRowFormat format, DataRow row, RowTokenizer tokenizer, IModelReader reader, out IReadOnlyList<TokenRow> read)
    {
        read = [];
        try
        {
            read = format.Read(row, tokenizer);
        }
        catch (Exception e) when (e is InvalidDataException or ChatTemplateException or InvalidOperationException)
        {
            return e.Message.StartsWith($"{row.Place}: ", StringComparison.Ordinal) ? e.Message[(row.Place.Length + 2)..] : e.Message;
        }

        return reader.Room is { } room && read.Any(r => r.Ids.Length > room.Tokens) ? $"longer than the model's context of {room.Tokens} tokens ({room.Because})"
            : read.All(static r => r.CountTargets() == 0) ? "without a trained token"
            : null;
    }
}

/// <summary>A row that a reader could not use.</summary>
/// <param name="Place">File and line of the row.</param>
/// <param name="Why">The reason.</param>
/// <param name="Tokens">Number of tokens of the row; 0 if unknown.</param>
internal sealed record LeftOutRow(string Place, string Why, int Tokens);
