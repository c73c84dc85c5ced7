using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Answering;

/// <summary>
/// Tools for models whose chat template knows none: they are described in the system message, and calls and results are text of the conversation, in the
/// form that most models with tools use.
/// </summary>
internal static class ToolMessages
{
    /// <summary>The format in which calls are written.</summary>
    internal const string Format = "hermes";

    private const string Before = "You can call functions to help with the user's request. They are described here as JSON, one on a line:\n<tools>";
    private const string After = "\n</tools>\nTo call one, answer with a JSON object of its name and arguments within <tool_call></tool_call>, and nothing else:\n"
        + "<tool_call>\n{\"name\": \"function\", \"arguments\": {}}\n</tool_call>";

    /// <summary>Messages of the roles system, user and assistant with content alone.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="tools">The tools; null for none.</param>
    internal static JsonArray Plain(JsonArray messages, JsonArray? tools)
    {
        if (tools is not { Count: > 0 } && !messages.Any(static m => m?["tool_calls"] is not null || Role(m) == "tool"))
        {
            return messages;
        }

        List<JsonObject> plain = [.. messages.OfType<JsonObject>().Select(Message)];
        if (tools is { Count: > 0 })
        {
            var described = Before + string.Concat(tools.Select(static t => "\n" + t?.ToJsonString())) + After;
            if (plain.Count > 0 && Role(plain[0]) == "system")
            {
                plain[0]["content"] = $"{plain[0]["content"]}\n\n{described}";
            }
            else
            {
                plain.Insert(0, Of("system", described));
            }
        }

        return [.. plain];
    }

    private static JsonObject Message(JsonObject message) => message["tool_calls"] is JsonArray calls
        ? Of("assistant", string.Join('\n', new[] { message["content"]?.ToString() }.Where(static c => !string.IsNullOrEmpty(c)).Concat(calls.Select(Call))))
        : Role(message) == "tool" ? Of("user", $"<tool_response>\n{message["content"]}\n</tool_response>")
        : message.DeepClone().AsObject();

    private static string Call(JsonNode? call) =>
        $"<tool_call>\n{new JsonObject { ["name"] = call?["function"]?["name"]?.DeepClone(), ["arguments"] = call?["function"]?["arguments"]?.DeepClone() }.ToJsonString()}\n</tool_call>";

    private static JsonObject Of(string role, string content) => new() { ["role"] = role, ["content"] = content };

    private static string? Role(JsonNode? message) => message?["role"]?.ToString();
}
