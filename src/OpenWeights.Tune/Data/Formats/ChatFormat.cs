using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Chats: {"messages": [{"role": "user", "content": "..."}, ...]} with optional "tools", or ShareGPT's {"conversations": [{"from":
/// "human", "value": "..."}, ...]}. The model's own chat template renders them; the assistant's turns are trained.
/// </summary>
public sealed class ChatFormat : IRowFormat
{
    private static readonly Dictionary<string, string> s_roles = new()
    {
        ["human"] = "user",
        ["user"] = "user",
        ["gpt"] = "assistant",
        ["assistant"] = "assistant",
        ["system"] = "system",
        ["tool"] = "tool",
    };

    /// <inheritdoc/>
    public string Name => "chat";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => row?["messages"] is JsonArray || row?["conversations"] is JsonArray;

    /// <inheritdoc/>
    public TokenRow Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var messages = Messages(row);
        if (!messages.Any(static m => m!["role"]!.GetValue<string>() == "assistant"))
        {
            throw row.Error("there is no message of the assistant to train on.");
        }

        try
        {
            var (text, assistant) = Template(row, tokenizer).RenderWithAssistant(messages, row.Json["tools"], tokenizer.TrainsLastTurnAlone);
            return tokenizer.Rendered(text, assistant, row.Place);
        }
        catch (ChatTemplateException e)
        {
            throw new InvalidDataException($"{row.Place}: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        var messages = Messages(row);
        var last = messages[^1]!.AsObject();
        if (last["role"]!.GetValue<string>() != "assistant" || last["content"] is not JsonValue answer || messages.Count < 2)
        {
            return null;
        }

        messages.RemoveAt(messages.Count - 1);
        var text = Template(row, tokenizer).Render(messages, row.Json["tools"], addGenerationPrompt: true);
        return (tokenizer.Tokenizer.Encode(text, addSpecialTokens: false), messages[^1]!["content"]?.ToString() ?? text, answer.ToString());
    }

    private static ChatRenderer Template(DataRow row, RowTokenizer tokenizer) => tokenizer.Chat ?? throw row.Error(
        "this is a chat, and the model has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); add the one of its instruct version, or use prompt and completion.");

    private static JsonArray Messages(DataRow row)
    {
        if (row.Json["messages"] is JsonArray messages)
        {
            return Checked(row, messages.DeepClone().AsArray());
        }

        if (row.Json["conversations"] is not JsonArray turns)
        {
            throw row.Error("\"messages\" is missing, or no list.");
        }

        var renamed = new JsonArray();
        foreach (var turn in turns)
        {
            var from = (turn as JsonObject)?["from"]?.ToString() ?? "";
            if (!s_roles.TryGetValue(from, out var role))
            {
                throw row.Error($"a turn is from '{from}'; known are {string.Join(", ", s_roles.Keys)}.");
            }

            renamed.Add(new JsonObject { ["role"] = role, ["content"] = turn!["value"]?.DeepClone() });
        }

        return Checked(row, renamed);
    }

    private static JsonArray Checked(DataRow row, JsonArray messages)
    {
        for (var i = 0; i < messages.Count; i++)
        {
            if (messages[i] is not JsonObject message)
            {
                throw row.Error($"message {i + 1} must be an object with role and content.");
            }

            if (message["role"] is not JsonValue role || role.GetValueKind() != JsonValueKind.String)
            {
                throw row.Error($"message {i + 1} has no role.");
            }

            if (message["content"] is null && message["tool_calls"] is null)
            {
                throw row.Error($"message {i + 1} has no content.");
            }
        }

        return messages.Count > 0 ? messages : throw row.Error("\"messages\" is empty.");
    }
}
