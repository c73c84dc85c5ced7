using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// A prompt without an answer, for objectives that sample answers: {"prompt": "..."} or {"prompt": [messages]}. Other columns are for rewards.
/// </summary>
internal sealed class PromptFormat : IRowFormat
{
    // Usual names of the reference answer beside a prompt.
    private static readonly string[] s_answers = ["answer", "solution", "ground_truth", "completion", "output"];

    /// <inheritdoc/>
    public string Name => "prompt";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["prompt"] is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        return [Alone(this, row, row, tokenizer)];
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (row.Json["prompt"] is JsonArray)
        {
            var (messages, tools) = (ChatMessages.Of(row, row.Json["prompt"]).Messages, ChatMessages.Tools(row));
            var chat = tokenizer.Chat ?? throw row.Error("\"prompt\" is a list of messages, and the model has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); add the one of its instruct version, or write the prompt as a text.");
            var text = chat.Render(messages, tools, addGenerationPrompt: true);
            return (tokenizer.Tokenizer.Encode(text, addSpecialTokens: false), messages[^1]!["content"]?.ToString() ?? text, Reference(row));
        }

        var prompt = CompletionFormat.Prompt(row);
        return (tokenizer.Tokenizer.EncodePrompt(prompt), prompt, Reference(row));
    }

    /// <summary>The prompt of a row of any format, with all of the row for rewards.</summary>
    /// <param name="format">The row's format.</param>
    /// <param name="named">The row with our names.</param>
    /// <param name="asRead">The row as in the file.</param>
    /// <param name="tokenizer">Tokenizes the prompt.</param>
    /// <exception cref="InvalidDataException">The row has no prompt.</exception>
    internal static TokenRow Alone(IRowFormat format, DataRow named, DataRow asRead, RowTokenizer tokenizer)
    {
        // Formats edit the messages of a row.
        var row = asRead.Json.ToJsonString();
        var question = format.Question(named, tokenizer) ?? (format is not PromptFormat && named.Has("prompt") ? new PromptFormat().Question(named, tokenizer) : null);
        if (question is not { Prompt.Length: > 0 } found)
        {
            throw named.Error("this row has no prompt to sample answers to.");
        }

        var fields = new JsonObject
        {
            [RowFieldNames.Prompt] = found.PromptText,
            [RowFieldNames.Answer] = found.Answer.Length > 0 ? found.Answer : null,
            [RowFieldNames.Row] = JsonNode.Parse(row),
        };
        return new TokenRow(found.Prompt, [.. Enumerable.Repeat(TokenRow.Ignored, found.Prompt.Length)], named.Place) { Role = RowRole.Prompt, Fields = fields.ToJsonString() };
    }

    private static string Reference(DataRow row) => s_answers.Select(k => row.Json[k] as JsonValue).FirstOrDefault(static v => v is not null)?.ToString() ?? "";
}
