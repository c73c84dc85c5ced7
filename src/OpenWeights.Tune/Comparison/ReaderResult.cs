using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Comparison;

/// <summary>What a reader makes of compared rows.</summary>
/// <param name="Reader">The name of the program that read the model.</param>
/// <param name="Loss">The mean cross entropy of the rows' trained tokens; null where no row was left.</param>
/// <param name="Exact">How many answers are exactly right.</param>
/// <param name="Asked">How many rows were asked.</param>
/// <param name="Prompts">The token ids of the prompts.</param>
/// <param name="EndTokens">The tokens that end an answer.</param>
/// <param name="Answers">The answers.</param>
/// <param name="LeftOut">The rows that the reader could not take.</param>
public sealed record ReaderResult(
    string Reader, double? Loss, int Exact, int Asked, IReadOnlyList<int[]> Prompts, IReadOnlyList<int> EndTokens, IReadOnlyList<Answer> Answers, IReadOnlyList<LeftOutRow> LeftOut)
{
    /// <summary>Lets a reader answer and score rows.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="reader">The reader.</param>
    /// <param name="stop">Stops between answers.</param>
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
            return new ReaderResult(reader.Name, loss, 0, 0, [], reader.EndTokens, [], leftOut);
        }

        var questions = EvaluationGenerations.Of(kept, tokenizer, reader.EndTokens);
        var answers = questions.Count == 0 ? [] : questions.Generate(reader.Room?.Tokens ?? int.MaxValue, prompts => reader.Continue(prompts, rows.MaxNewTokens, stop));
        return new ReaderResult(reader.Name, loss, answers.Count(static a => a.IsExact), answers.Count, questions.Prompts, reader.EndTokens, answers, leftOut);
    }

    // Why a row is none for this reader; null where it is one.
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

        return reader.Room is { } room && read.Any(r => r.Ids.Length > room.Tokens) ? $"longer than the {room.Tokens} tokens that the model takes ({room.Because})"
            : read.All(static r => r.CountTargets() == 0) ? "without a trained token"
            : null;
    }
}

/// <summary>A row that a reader could not take.</summary>
/// <param name="Place">Where the row stands.</param>
/// <param name="Why">What stands in the way.</param>
/// <param name="Tokens">The row's tokens; 0 where it has none.</param>
public sealed record LeftOutRow(string Place, string Why, int Tokens);
