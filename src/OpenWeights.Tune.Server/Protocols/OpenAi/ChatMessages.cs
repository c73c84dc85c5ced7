using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>Messages, tools and values of a chat's request, checked and as chat templates take them.</summary>
internal static class ChatMessages
{
    private static readonly string[] s_roles = ["system", "developer", "user", "assistant", "tool", "function"];
    private static readonly string[] s_efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

    /// <summary>The messages.</summary>
    /// <param name="given">The field.</param>
    /// <param name="template">The model's chat template; null for none.</param>
    /// <exception cref="RequestException">A message is wrong.</exception>
    internal static JsonArray Read(JsonElement? given, string? template)
    {
        if (given is not { ValueKind: not JsonValueKind.Null } field)
        {
            throw new RequestException("Missing required parameter: 'messages'.", "messages");
        }

        if (field.ValueKind != JsonValueKind.Array)
        {
            throw new RequestException($"Invalid type for 'messages': expected an array of objects, but got {Kind(field)} instead.", "messages");
        }

        if (field.GetArrayLength() == 0)
        {
            throw new RequestException("Invalid 'messages': empty array. Expected an array with minimum length 1.", "messages");
        }

        JsonArray messages = [.. field.EnumerateArray().Select((m, i) => Message(m, i, isLast: i == field.GetArrayLength() - 1, template ?? ""))];
        if (messages.Count > 1 && Role(messages[^1]) == "assistant" && Role(messages[^2]) == "assistant")
        {
            throw new RequestException("Invalid 'messages': the last two are both the assistant's; the last one is continued, so put the beginning into one message.", "messages");
        }

        return messages;
    }

    /// <summary>The tools; null for none.</summary>
    /// <exception cref="RequestException">A tool is wrong.</exception>
    internal static JsonArray? Tools(JsonElement? given)
    {
        if (given is not { ValueKind: not JsonValueKind.Null } field)
        {
            return null;
        }

        if (field.ValueKind != JsonValueKind.Array)
        {
            throw new RequestException($"Invalid type for 'tools': expected an array of objects, but got {Kind(field)} instead.", "tools");
        }

        for (var i = 0; i < field.GetArrayLength(); i++)
        {
            CheckTool(field[i], $"tools[{i}]");
        }

        return field.GetArrayLength() == 0 ? null : JsonArray.Create(field);
    }

    /// <summary>Which tools are called.</summary>
    /// <exception cref="RequestException">The choice is wrong, or names no tool of the request.</exception>
    internal static ToolChoice Choice(JsonElement? given, JsonArray? tools)
    {
        var choice = given switch
        {
            null or { ValueKind: JsonValueKind.Null } => ToolChoice.Auto,
            { ValueKind: JsonValueKind.String } text => text.GetString() switch
            {
                "auto" => ToolChoice.Auto,
                "none" => ToolChoice.None,
                "required" => ToolChoice.Required,
                var other => throw new RequestException($"Invalid value: '{other}'. Supported values are: 'none', 'auto', and 'required'.", "tool_choice"),
            },
            { ValueKind: JsonValueKind.Object } named => ToolChoice.Function(
                Text(named, "function", "name") ?? throw new RequestException("Missing required parameter: 'tool_choice.function.name'.", "tool_choice.function")),
            _ => throw new RequestException("Invalid type for 'tool_choice': it must be a text or an object.", "tool_choice"),
        };
        return choice.Kind != ToolChoiceKind.Required ? choice
            : tools is null ? throw new RequestException("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
            : choice.Name is { } name && !tools.Any(t => t?["function"]?["name"]?.ToString() == name) ? throw new RequestException($"'tool_choice' names the function '{name}', which is not in 'tools'.", "tool_choice")
            : choice;
    }

    /// <summary>Values for the template's variables.</summary>
    /// <exception cref="RequestException">A name or value is wrong.</exception>
    internal static JsonObject? Values(JsonElement? given, string? effort)
    {
        var values = given switch
        {
            null or { ValueKind: JsonValueKind.Null } => [],
            { ValueKind: JsonValueKind.Object } field => JsonObject.Create(field)!,
            _ => throw new RequestException("Invalid type for 'chat_template_kwargs': it must be an object.", "chat_template_kwargs"),
        };
        if (values.Select(static v => ChatTemplateDefaults.Problem(v.Key)).FirstOrDefault(static p => p is not null) is { } problem)
        {
            throw new RequestException($"Invalid 'chat_template_kwargs': {problem}", "chat_template_kwargs");
        }

        if (effort is not null)
        {
            if (!s_efforts.Contains(effort))
            {
                throw new RequestException($"Invalid value: '{effort}'. Supported values are: {string.Join(", ", s_efforts.Select(static e => $"'{e}'"))}.", "reasoning_effort");
            }

            _ = values.TryAdd("reasoning_effort", effort);
            if (effort == "none")
            {
                _ = values.TryAdd("enable_thinking", false);
            }
        }

        return values.Count == 0 ? null : values;
    }

    private static JsonObject Message(JsonElement given, int index, bool isLast, string template)
    {
        var place = $"messages[{index}]";
        if (given.ValueKind != JsonValueKind.Object)
        {
            throw new RequestException($"Invalid type for '{place}': expected an object, but got {Kind(given)} instead.", place);
        }

        var message = JsonObject.Create(given)!;
        var role = message["role"] switch
        {
            null => throw new RequestException($"Missing required parameter: '{place}.role'.", $"{place}.role"),
            JsonValue value when value.TryGetValue<string>(out var text) && text.Length > 0 => text,
            _ => throw new RequestException($"Invalid type for '{place}.role': it must be a text.", $"{place}.role"),
        };
        if (!template.Contains(role, StringComparison.Ordinal))
        {
            // Some models have roles of their own, such as for documents; a template leaves others out, or puts in a role that the model has never seen.
            message["role"] = s_roles.Contains(role)
                ? role == "developer" ? "system" : role
                : throw new RequestException($"Invalid value: '{role}'. Supported values are: {string.Join(", ", s_roles.Select(static r => $"'{r}'"))}.", $"{place}.role");
        }

        message["content"] = Content(message, role, $"{place}.content", isLast);
        ReadCalls(message, place, $"message {index} (role: {role})");
        return message;
    }

    // Text parts become one text, as templates expect; those of an answer that is continued follow each other directly.
    private static JsonNode? Content(JsonObject message, string role, string place, bool isLast) => message["content"] switch
    {
        null when role == "assistant" && (message["tool_calls"] is not null || message["reasoning_content"] is not null) => null,
        null => throw new RequestException($"Missing required parameter: '{place}'.", place),
        JsonArray parts => string.Join(role == "assistant" && isLast ? "" : "\n", parts.Select((p, i) => Part(p, $"{place}[{i}]")).ToList()),
        JsonValue value when value.TryGetValue<string>(out var text) => text,
        var other => throw new RequestException($"Invalid type for '{place}': expected a text or an array of parts, but got {other.GetValueKind()} instead.", place),
    };

    /// <summary>The text of a part of a message.</summary>
    /// <exception cref="RequestException">It is no text.</exception>
    internal static string Part(JsonNode? part, string place) => part switch
    {
        JsonObject { } known when IsText(known) => (known["text"] ?? known["refusal"]) is JsonValue value && value.TryGetValue<string>(out var text) ? text
            : throw new RequestException($"Invalid type for '{place}.text': it must be a text.", $"{place}.text"),
        JsonObject { } other when other["type"] is { } type => throw new RequestException($"'{place}' is of type '{type}', and this model reads only text.", place),
        _ => throw new RequestException($"Invalid type for '{place}': expected an object with type and text.", place),
    };

    private static bool IsText(JsonObject part) => part["type"]?.ToString() is "text" or "refusal" or "input_text" or "output_text";

    // Templates take the arguments as an object, and the protocol has them as text.
    private static void ReadCalls(JsonObject message, string place, string named)
    {
        if (message["tool_calls"] is not { } field)
        {
            _ = message.Remove("tool_calls");
            return;
        }

        if (field is not JsonArray calls)
        {
            throw new RequestException($"Invalid type for '{place}.tool_calls': expected an array of objects.", $"{place}.tool_calls");
        }

        for (var i = 0; i < calls.Count; i++)
        {
            if (calls[i] is not JsonObject { } call || call["function"] is not JsonObject function || function["name"] is not JsonValue name || !name.TryGetValue<string>(out _))
            {
                throw new RequestException($"Missing required parameter: '{place}.tool_calls[{i}].function.name'.", $"{place}.tool_calls[{i}].function");
            }

            if (function["arguments"] is JsonValue value && value.TryGetValue<string>(out var text))
            {
                function["arguments"] = Arguments(text, $"{place}.tool_calls[{i}].function.arguments", named);
            }
        }
    }

    private static JsonNode? Arguments(string text, string place, string named)
    {
        try
        {
            return string.IsNullOrWhiteSpace(text) ? new JsonObject() : JsonNode.Parse(text) is JsonObject arguments ? arguments : text;
        }
        catch (JsonException)
        {
            throw new RequestException($"Invalid '{place}': {named} calls a tool with arguments that are not JSON.", place);
        }
    }

    private static void CheckTool(JsonElement tool, string place)
    {
        if (tool.ValueKind != JsonValueKind.Object)
        {
            throw new RequestException($"Invalid type for '{place}': expected an object, but got {Kind(tool)} instead.", place);
        }

        if (tool.TryGetProperty("type", out var type) && type.ToString() is var kind && kind != "function")
        {
            throw new RequestException($"Invalid value: '{kind}'. Supported values are: 'function'.", $"{place}.type");
        }

        if (Text(tool, "function", "name") is not { Length: > 0 })
        {
            throw new RequestException($"Missing required parameter: '{place}.function.name'.", $"{place}.function.name");
        }

        if (tool.GetProperty("function").TryGetProperty("parameters", out var parameters) && parameters.ValueKind is not (JsonValueKind.Object or JsonValueKind.Null))
        {
            throw new RequestException($"Invalid type for '{place}.function.parameters': a schema is an object.", $"{place}.function.parameters");
        }
    }

    private static string? Text(JsonElement given, string outer, string inner) =>
        given.TryGetProperty(outer, out var node) && node.ValueKind == JsonValueKind.Object && node.TryGetProperty(inner, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static string? Role(JsonNode? message) => message?["role"]?.ToString();

    private static string Kind(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        JsonValueKind.Null => "null",
        JsonValueKind.Array => "an array",
        _ => "an object",
    };
}
