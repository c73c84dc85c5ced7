using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Tokenized rows: {"input_ids": [...], "labels": [...]}, with labels not shifted, and -100 for tokens that are not trained.
/// </summary>
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
            throw row.Error($"\"labels\" has {labels.Length} entries, but \"input_ids\" has {ids.Length}; they must have equal length.");
        }

        if (Array.FindIndex(labels, static l => l is < 0 and not TokenRow.Ignored) is >= 0 and var at)
        {
            throw row.Error($"\"labels\" contains {labels[at]} at index {at}; a label must be the token id, or -100 if it is not trained.");
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
