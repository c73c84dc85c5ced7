using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Tokenized rows: {"input_ids": [...], "labels": [...]}, with labels not shifted, and -100 for tokens that are not trained; pairs
/// {"prompt_ids", "chosen_ids", "rejected_ids"} with an optional "margin", and answers with a label {"prompt_ids", "completion_ids", "label"}, without the prompt's tokens.
/// </summary>
public sealed class TokenizedFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "tokenized";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["input_ids"] is not null || row?["chosen_ids"] is not null || row?["completion_ids"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        if (row.Json["input_ids"] is null && row.Json["chosen_ids"] is not null)
        {
            return [Answer(row, "chosen_ids", RowRole.Chosen) with { Margin = PreferenceFormat.Margin(row) }, Answer(row, "rejected_ids", RowRole.Rejected)];
        }

        if (row.Json["input_ids"] is null && row.Json["completion_ids"] is not null)
        {
            return [Answer(row, "completion_ids", PreferenceFormat.IsDesired(row) ? RowRole.Desired : RowRole.Undesired)];
        }

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

    private static TokenRow Answer(DataRow row, string key, RowRole role)
    {
        var (prompt, answer) = (row.Ints("prompt_ids"), row.Ints(key));
        return answer.Length == 0
            ? throw row.Error($"\"{key}\" is empty.")
            : new TokenRow([.. prompt, .. answer], [.. Enumerable.Repeat(TokenRow.Ignored, prompt.Length), .. answer], row.Place) { Role = role };
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Json["input_ids"] is null)
        {
            return null;
        }

        var made = Read(row, tokenizer)[0];
        var trained = Array.FindIndex(made.Labels, static l => l != TokenRow.Ignored);
        return trained < 0 ? null : TokenQuestion.Of(made.Ids, trained, tokenizer.Tokenizer);
    }
}
