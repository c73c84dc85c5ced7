using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// A prompt and its completion, without a chat template: {"prompt": "...", "completion": "..."}. The completion and the end of text are
/// trained. If both are lists of messages, they are a chat of which the completion is trained.
/// </summary>
internal sealed class CompletionFormat : IRowFormat
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
            return row.Json["completion"] is JsonArray or JsonObject
                ? [ChatFormat.Answer(row, tokenizer, row.Json["prompt"], row.Json["completion"])]
                : throw row.Error("\"prompt\" is a list of messages, so \"completion\" must be one too, such as [{\"role\": \"assistant\", \"content\": \"...\"}].");
        }

        if (row.Json["completion"] is JsonArray or JsonObject)
        {
            throw row.Error("\"completion\" is a list of messages, so \"prompt\" must be one too, such as [{\"role\": \"user\", \"content\": \"...\"}].");
        }

        var (prompt, completion) = (Prompt(row), row.Text("completion"));
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

        var prompt = Prompt(row);
        return (tokenizer.Tokenizer.EncodePrompt(prompt), prompt, row.Text("completion"));
    }

    /// <summary>The text before the answer: the row's system text, an empty line, and its prompt.</summary>
    internal static string Prompt(DataRow row)
    {
        RowHistory.Refuse(row, "a prompt is a text, not a turn");
        return row.System is { } system ? $"{system}\n\n{row.Text("prompt")}" : row.Text("prompt");
    }
}
