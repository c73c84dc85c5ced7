using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// The messages of a row as chat templates want them, whatever the data set calls things: OpenAI's role and content, ShareGPT's from and
/// value with function_call and observation, contents in parts. What cannot be said in a template is refused, not left out.
/// </summary>
internal sealed class ChatMessages
{
    private static readonly string[] s_masks = ["train", "loss_weight", "weight"];

    private static readonly Dictionary<string, string> s_roles = new()
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

    /// <summary>The messages: role, content and whatever else they had.</summary>
    internal JsonArray Messages => _messages;

    /// <summary>Of each message what the row says of training it, or null where it says nothing.</summary>
    internal IReadOnlyList<bool?> Trained => _trained;

    /// <summary>The messages of lists, one behind the other, checked.</summary>
    /// <param name="row">The row that they are of; its "system" comes first.</param>
    /// <param name="lists">Lists of messages, single messages, or texts that hold such a list in JSON.</param>
    /// <exception cref="InvalidDataException">Something is wrong with a message.</exception>
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

        // The order of roles is for the template to take or to refuse in its own words: some join two turns of one role, some write both,
        // some insist on turns that alternate, on a user who begins, on one system's message.
        return chat._messages.Count > 0 ? chat : throw row.Error("\"messages\" is empty.");
    }

    /// <summary>The tools of a row, as templates want them, or null.</summary>
    /// <exception cref="InvalidDataException">They are no list of functions.</exception>
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
                throw _row.Error("\"messages\" is missing, or no list.");
        }
    }

    private void Add(JsonObject message)
    {
        var number = _messages.Count + 1;
        if (RowMedia.Field(message) is { } field)
        {
            throw _row.Error($"message {number} has \"{field}\"; this version reads text alone.");
        }

        var given = Text(message["role"]) ?? Text(message["from"]) ?? throw _row.Error($"message {number} has no role.");
        if (!s_roles.TryGetValue(given, out var role))
        {
            throw _row.Error($"message {number} is from '{given}'; known are {string.Join(", ", s_roles.Keys)}. The setting roles names others.");
        }

        var made = new JsonObject { ["role"] = role };
        foreach (var (key, value) in message)
        {
            if (value is not null && key is not ("role" or "from" or "content" or "value" or "tool_calls") && !s_masks.Contains(key))
            {
                made[key] = value.DeepClone();
            }
        }

        var content = Content(message["content"] ?? message["value"], number);
        var calls = given == "function_call" ? ToolCalls.OfText(_row, content, number) : message["tool_calls"] is { } node ? ToolCalls.Of(_row, node, number) : null;
        if (calls is not null)
        {
            (made["tool_calls"], content) = (calls, given == "function_call" ? "" : content);
        }

        if (content is null && calls is null)
        {
            throw _row.Error($"message {number} ({role}) has no content.");
        }

        if (calls is null && role is "user" or "assistant" && string.IsNullOrWhiteSpace(content) && made["reasoning_content"] is null)
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
        _ => throw _row.Error($"the content of message {number} must be a text, or a list of parts of type text."),
    };

    private string Part(JsonNode? part, int number) => part is JsonObject map && Text(map["type"]) is null or "text" && (Text(map["text"]) ?? Text(map["value"])) is { } text
        ? text
        : throw _row.Error($"a part of message {number} is of type '{Text((part as JsonObject)?["type"]) ?? "unknown"}'; this version reads text alone.");

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
                    _ => throw _row.Error($"\"{key}\" of message {number} is {value.ToJsonString()}; it must be true or false (or 1 or 0): a message is trained or it is not."),
                };
            }
        }

        return null;
    }

    private static string? Text(JsonNode? node) => node is JsonValue value && value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : null;
}
