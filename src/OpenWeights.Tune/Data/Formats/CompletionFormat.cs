using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// A prompt and what follows it, without a chat template: {"prompt": "...", "completion": "..."}. The completion and the end of text are
/// trained. Where both are lists of messages, they are a chat of which the completion is trained.
/// </summary>
public sealed class CompletionFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "completion";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["prompt"] is not null && row["completion"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Json["prompt"] is JsonArray)
        {
            return [ChatFormat.Answer(row, tokenizer, row.Json["prompt"], row.Json["completion"])];
        }

        var (prompt, completion) = (row.Text("prompt"), row.Text("completion"));
        return completion.Length > 0 ? [tokenizer.Plain(prompt + completion, prompt.Length, row.Place)] : throw row.Error("\"completion\" is empty.");
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Json["prompt"] is JsonArray)
        {
            return ChatFormat.Question(row, tokenizer, ChatMessages.Of(row, row.Json["prompt"], row.Json["completion"]).Messages);
        }

        var prompt = row.Text("prompt");
        var ids = tokenizer.Tokenizer.Encode(prompt, addSpecialTokens: true);
        return (ids.Length > 0 && ids[^1] == tokenizer.Tokenizer.EosToken ? ids[..^1] : ids, prompt, row.Text("completion"));
    }
}
