using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Chats: {"messages": [{"role": "user", "content": "..."}, ...]} with optional "tools", or ShareGPT's {"conversations": [{"from":
/// "human", "value": "..."}, ...]}. They are rendered with the model's chat template; the assistant's turns are trained, except those
/// with "train": false (or "weight" or "loss_weight": 0).
/// </summary>
internal sealed class ChatFormat : IRowFormat
{
    /// <inheritdoc/>
    public string Name => "chat";

    /// <inheritdoc/>
    public bool Recognizes(JsonObject row) => List(row) is not null;

    /// <inheritdoc/>
    public IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        return [Rendered(row, tokenizer, ChatMessages.Of(row, List(row.Json)), tokenizer?.TrainsLastTurnAlone ?? false)];
    }

    /// <inheritdoc/>
    public (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(row);
        ArgumentNullException.ThrowIfNull(tokenizer);
        return Question(row, tokenizer, ChatMessages.Of(row, List(row.Json)).Messages);
    }

    /// <summary>The last text answer of the assistant, and the messages before it; null if there is none.</summary>
    internal static (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer, JsonArray messages)
    {
        var at = messages.Count - 1;
        while (at > 0 && (messages[at]!["role"]!.GetValue<string>() != "assistant" || messages[at]!["tool_calls"] is not null))
        {
            at--;
        }

        if (at <= 0)
        {
            return null;
        }

        var last = messages[at]!.AsObject();
        while (messages.Count > at)
        {
            messages.RemoveAt(messages.Count - 1);
        }

        var template = Template(row, tokenizer);
        var text = template.Render(messages, ChatMessages.Tools(row), addGenerationPrompt: true);
        return (tokenizer.Tokenizer.Encode(text, addSpecialTokens: false), messages[^1]!["content"]?.ToString() ?? text, ReasoningFormat.AnswerOf(last["content"]!.ToString()));
    }

    /// <summary>A chat of a prompt and its answer; the answer is trained.</summary>
    internal static TokenRow Answer(DataRow row, RowTokenizer tokenizer, JsonNode? prompt, JsonNode? answer)
    {
        var chat = prompt is null ? ChatMessages.Of(row, answer) : ChatMessages.Of(row, prompt, answer);
        return Rendered(row, tokenizer, chat, lastTurnAlone: true);
    }

    internal static JsonNode? List(JsonObject? row) => IsList(row?["messages"]) ? row!["messages"] : IsList(row?["conversations"]) ? row!["conversations"] : null;

    // In tables, a list is stored as a text.
    private static bool IsList(JsonNode? node) => node is JsonArray || (node is JsonValue text && text.TryGetValue<string>(out var json) && json.AsSpan().TrimStart().StartsWith("["));

    private static TokenRow Rendered(DataRow row, RowTokenizer tokenizer, ChatMessages chat, bool lastTurnAlone)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (!chat.Messages.Any(static m => m!["role"]!.GetValue<string>() == "assistant"))
        {
            throw row.Error("there is no assistant message to train on.");
        }

        var (choice, tools) = (Choice(row, tokenizer, chat, lastTurnAlone), ChatMessages.Tools(row));
        try
        {
            var rendered = Template(row, tokenizer).RenderForTraining(chat.Messages, tools, choice);
            ToolCalls.RequireIn(rendered.Text, row, chat.Messages, tools);
            RequireAll(rendered, row, chat.Messages);
            return tokenizer.Rendered(rendered, row.Place);
        }
        catch (ChatTemplateException e) when (e.Kind != ChatTemplateErrorKind.Syntax)
        {
            throw new InvalidDataException($"{row.Place}: {e.Message}", e);
        }
    }

    // A template may silently skip unknown roles, or a system message that is not first.
    private static void RequireAll(ChatForTraining rendered, DataRow row, JsonArray messages)
    {
        for (var i = 0; i < messages.Count; i++)
        {
            var (role, content) = (messages[i]!["role"]!.GetValue<string>(), messages[i]!["content"]!.GetValue<string>().Trim());
            if (role != "assistant" && content.Length > 0 && !rendered.Written.Contains(i) && !rendered.Text.Contains(content, StringComparison.Ordinal))
            {
                throw row.Error($"the model's chat template does not render message {i + 1} ({role}), so it would be lost. Use a model (or model.chat_template) whose template does, or merge it into another message.");
            }
        }
    }

    private static TrainedTurns Choice(DataRow row, RowTokenizer tokenizer, ChatMessages chat, bool lastTurnAlone)
    {
        for (var i = 0; i < chat.Messages.Count && !tokenizer.TrainsAll; i++)
        {
            if (chat.Trained[i] == true && chat.Messages[i]!["role"]!.GetValue<string>() is not "assistant" and var role)
            {
                throw row.Error($"message {i + 1} ({role}) is marked as trained, but only assistant messages are trained, unless data.train_on (or --train-on) is all.");
            }
        }

        return new TrainedTurns(tokenizer.TrainsAll, lastTurnAlone, i => i < 0 || i >= chat.Trained.Count || chat.Trained[i] != false) { Reasoning = tokenizer.TrainsReasoning };
    }

    private static ChatRenderer Template(DataRow row, RowTokenizer tokenizer) => tokenizer.Chat ?? throw row.Error(
        "this is a chat, and the model has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); add the one of its instruct version, or use prompt and completion.");
}
