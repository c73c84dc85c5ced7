using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Converts the messages of a row to the form that chat templates expect: OpenAI's role and content, ShareGPT's from and
/// value with function_call and observation, content in parts. What templates cannot represent is refused, not dropped.
/// </summary>
internal sealed class ChatMessages
{
    private static readonly string[] s_masks = ["train", "loss_weight", "weight"];

    private static readonly Dictionary<string, string> s_roles = new(StringComparer.OrdinalIgnoreCase)
    {
        ["system"] = "system",
        ["developer"] = "developer",
        ["user"] = "user",
        ["human"] = "user",
        ["assistant"] = "assistant",
        ["gpt"] = "assistant",
        ["chatgpt"] = "assistant",
        ["bot"] = "assistant",
        ["model"] = "assistant",
        ["function_call"] = "assistant",
        ["tool"] = "tool",
        ["ipython"] = "ipython",
        ["observation"] = "tool",
        ["function"] = "tool",
        ["function_response"] = "tool",
    };

    private readonly DataRow _row;
    private readonly JsonArray _messages = [];
    private readonly List<bool?> _trained = [];

    private ChatMessages(DataRow row) => _row = row;

    /// <summary>The messages: role, content and any other fields.</summary>
    internal JsonArray Messages => _messages;

    /// <summary>Whether each message is trained according to the row; null if the row does not say.</summary>
    internal IReadOnlyList<bool?> Trained => _trained;

    /// <summary>Concatenates and validates lists of messages.</summary>
    /// <param name="row">The row that contains them; its "system" message comes first.</param>
    /// <param name="lists">Lists of messages, single messages, or texts that contain such a list in JSON.</param>
    /// <exception cref="InvalidDataException">A message is invalid.</exception>
    internal static ChatMessages Of(DataRow row, params JsonNode?[] lists)
    {
        var chat = new ChatMessages(row);
        if (row.System is { } system)
        {
            chat.Add(new JsonObject { ["role"] = "system", ["content"] = system });
        }

        foreach (var list in lists)
        {
            chat.AddAll(list);
        }

        // The order of roles is left to the template, which may reject it: some templates merge two turns of one role, some write both,
        // some require alternating turns, a user turn first, or a single system message.
        return chat._messages.Count > 0 ? chat : throw row.Error("\"messages\" is empty.");
    }

    /// <summary>The tools of a row in the form that templates expect, or null.</summary>
    /// <exception cref="InvalidDataException">They are not a list of functions.</exception>
    internal static JsonArray? Tools(DataRow row)
    {
        var node = row.Json["tools"];
        if (node is JsonValue text && text.GetValueKind() == JsonValueKind.String)
        {
            node = string.IsNullOrWhiteSpace(text.GetValue<string>()) ? null : row.Nested("tools", text.GetValue<string>());
        }

        if (node is null or JsonArray { Count: 0 })
        {
            return null;
        }

        var tools = new JsonArray();
        foreach (var tool in node as JsonArray ?? throw row.Error("\"tools\" must be a list of functions."))
        {
            var function = tool as JsonObject ?? throw row.Error("\"tools\" must be a list of functions; one of them is not an object.");
            tools.Add(function.ContainsKey("function") || function.ContainsKey("type") ? function.DeepClone() : new JsonObject { ["type"] = "function", ["function"] = function.DeepClone() });
        }

        return tools;
    }

    private void AddAll(JsonNode? list)
    {
        if (list is JsonValue text && text.GetValueKind() == JsonValueKind.String)
        {
            list = _row.Nested("messages", text.GetValue<string>());
        }

        switch (list)
        {
            case JsonArray messages:
                foreach (var message in messages)
                {
                    Add(message as JsonObject ?? throw _row.Error($"message {_messages.Count + 1} must be an object with role and content."));
                }

                break;
            case JsonObject message:
                Add(message);
                break;
            default:
                throw _row.Error("\"messages\" is missing or not a list.");
        }
    }

    private void Add(JsonObject message)
    {
        var number = _messages.Count + 1;
        if (RowMedia.Field(message) is { } field)
        {
            throw _row.Error($"message {number} has \"{field}\"; only text is supported.");
        }

        var given = Text(message["role"]) ?? Text(message["from"]) ?? throw _row.Error($"message {number} has no role.");
        if (!s_roles.TryGetValue(given, out var role))
        {
            throw _row.Error($"message {number} has the unknown role '{given}'; known are {string.Join(", ", s_roles.Keys)}. Use the setting roles to map others.");
        }

        var isCall = given.Equals("function_call", StringComparison.OrdinalIgnoreCase);
        var made = new JsonObject { ["role"] = role };
        foreach (var (key, value) in message)
        {
            if (value is not null && key is not ("role" or "from" or "content" or "value" or "tool_calls") && !s_masks.Contains(key))
            {
                made[key] = value.DeepClone();
            }
        }

        // Reasoning that is given as a part of the content is a field of the message elsewhere.
        var body = message["content"] ?? message["value"];
        if (role == "assistant" && body is JsonArray all && all.Any(ReasoningFormat.IsReasoning))
        {
            made["reasoning_content"] = string.Concat(all.Where(ReasoningFormat.IsReasoning).Select(static p => ReasoningFormat.TextOf(p!)));
            body = new JsonArray([.. all.Where(static p => !ReasoningFormat.IsReasoning(p)).Select(static p => p?.DeepClone())]);
        }

        var content = Content(body, number);
        var calls = isCall ? ToolCalls.OfText(_row, content, number) : message["tool_calls"] is { } node ? ToolCalls.Of(_row, node, number) : null;
        if (calls is not null)
        {
            (made["tool_calls"], content) = (calls, isCall ? "" : content);
        }

        if (content is null && calls is null)
        {
            throw _row.Error($"message {number} ({role}) has no content.");
        }

        if (calls is null && role is "user" or "assistant" && string.IsNullOrWhiteSpace(content) && ReasoningFormat.FieldOf(made) is null)
        {
            throw _row.Error($"message {number} ({role}) is empty.");
        }

        made["content"] = content ?? "";
        _messages.Add(made);
        _trained.Add(Mask(message, number));
    }

    private string? Content(JsonNode? node, int number) => node switch
    {
        null => null,
        JsonValue value when value.GetValueKind() == JsonValueKind.String => value.GetValue<string>(),
        JsonArray parts => string.Concat(parts.Select(p => Part(p, number))),
        _ => throw _row.Error($"the content of message {number} must be a string, or a list of parts of type text."),
    };

    private string Part(JsonNode? part, int number) => part is JsonObject map && Text(map["type"]) is null or "text" && (Text(map["text"]) ?? Text(map["value"])) is { } text
        ? text
        : throw _row.Error($"a part of message {number} is of type '{Text((part as JsonObject)?["type"]) ?? "unknown"}'; only text is supported.");

    private bool? Mask(JsonObject message, int number)
    {
        foreach (var key in s_masks)
        {
            if (message[key] is { } value)
            {
                return value.GetValueKind() switch
                {
                    JsonValueKind.True => true,
                    JsonValueKind.False => false,
                    JsonValueKind.Number when value.GetValue<double>() is 0 or 1 => value.GetValue<double>() == 1,
                    _ => throw _row.Error($"\"{key}\" of message {number} is {value.ToJsonString()}; it must be true or false (or 1 or 0); fractional weights are not supported."),
                };
            }
        }

        return null;
    }

    private static string? Text(JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}
