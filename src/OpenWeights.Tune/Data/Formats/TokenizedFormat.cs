using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Tokenized rows: {"input_ids": [...], "labels": [...]}, with labels not shifted, and -100 for tokens that are not trained; pairs
/// {"prompt_ids", "chosen_ids", "rejected_ids"} with an optional "margin", answers with a label {"prompt_ids", "completion_ids", "label"}, and answers sampled from a policy
/// {"prompt_ids", "completion_ids", "group", "logprobs", "rewards"}; answers are without the prompt's tokens.
/// </summary>
internal sealed class TokenizedFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "tokenized";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["input_ids"] is not null || row?["chosen_ids"] is not null || row?["prompt_ids"] is not null || (row?["given"] is not null && row["when"] is not null && row["expected"] is not null);

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        if (row.Json["input_ids"] is null && row.Json["chosen_ids"] is not null)
        {
            return [Answer(row, "chosen_ids", RowRole.Chosen) with { Margin = PreferenceFormat.Margin(row) }, Answer(row, "rejected_ids", RowRole.Rejected)];
        }

        if (row.Json["completion_ids"] is not null && row.Json["rewards"] is not null)
        {
            return [Answer(row, "completion_ids", RowRole.Sampled) with { Fields = SampleFields(row) }];
        }

        // samples.jsonl of a run also has its answers to eval rows.
        if (row.Json["given"] is not null && row.Json["when"] is not null)
        {
            return [];
        }

        if (row.Json["input_ids"] is null && row.Json["completion_ids"] is not null)
        {
            return [Answer(row, "completion_ids", PreferenceFormat.IsDesired(row) ? RowRole.Desired : RowRole.Undesired)];
        }

        if (row.Json["input_ids"] is null && row.Has("prompt_ids"))
        {
            throw row.Error("\"prompt_ids\" has no answer beside it; add \"chosen_ids\" and \"rejected_ids\", or \"completion_ids\".");
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

    private static string SampleFields(DataRow row)
    {
        var fields = new JsonObject();
        foreach (var name in new[] { RowFieldNames.Group, RowFieldNames.LogProbs, RowFieldNames.Rewards })
        {
            if (row.Json[name] is { } value)
            {
                fields[name] = value.DeepClone();
            }
        }

        var count = row.Json["completion_ids"] is JsonArray ids ? ids.Count : 0;
        return fields[RowFieldNames.Group] is null ? throw row.Error("\"group\" is missing; rows of a group are the answers to one prompt.")
            : fields[RowFieldNames.Rewards] is not JsonObject { Count: > 0 } ? throw row.Error("\"rewards\" must be an object of numbers by name, such as {\"correct\": 1.0}.")
            : fields[RowFieldNames.LogProbs] is { } numbers && (numbers as JsonArray)?.Count != count ? throw row.Error($"\"logprobs\" must be a list of {count} numbers, one for each token of \"completion_ids\".")
            : fields.ToJsonString();
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Json["input_ids"] is null)
        {
            var prompt = row.Has("prompt_ids") && !row.Has("chosen_ids") && !row.Has("completion_ids") ? row.Ints("prompt_ids") : [];
            return prompt.Length == 0 ? null : (prompt, tokenizer.HasTokenizer ? tokenizer.Tokenizer.Decode(prompt, skipSpecialTokens: true) : "", row.Json["answer"]?.ToString() ?? "");
        }

        var made = Read(row, tokenizer)[0];
        var trained = Array.FindIndex(made.Labels, static l => l != TokenRow.Ignored);
        return trained < 0 ? null : TokenQuestion.Of(made.Ids, trained, tokenizer.Tokenizer);
    }
}
