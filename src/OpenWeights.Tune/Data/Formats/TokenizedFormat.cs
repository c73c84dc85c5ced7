using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Rows that are tokens already: {"input_ids": [...], "labels": [...]}, labels unshifted and -100 where nothing is trained.</summary>
public sealed class TokenizedFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "tokenized";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["input_ids"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        var ids = row.Ints("input_ids");
        var labels = row.Has("labels") ? row.Ints("labels") : ids;
        if (ids.Length == 0)
        {
            throw row.Error("\"input_ids\" is empty.");
        }

        if (labels.Length != ids.Length)
        {
            throw row.Error($"\"labels\" has {labels.Length} entries and \"input_ids\" has {ids.Length}; they must be as many.");
        }

        if (Array.FindIndex(labels, static l => l is < 0 and not TokenRow.Ignored) is >= 0 and var at)
        {
            throw row.Error($"\"labels\" holds {labels[at]} at place {at}; a label is a token id, or -100 where nothing is trained.");
        }

        return [new TokenRow(ids, labels, row.Place)];
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var made = Read(row, tokenizer)[0];
        var trained = Array.FindIndex(made.Labels, static l => l != TokenRow.Ignored);
        return trained < 0 ? null : TokenQuestion.Of(made.Ids, trained, tokenizer.Tokenizer);
    }
}
