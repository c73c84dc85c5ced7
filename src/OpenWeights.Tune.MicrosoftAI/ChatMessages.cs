using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>Messages as chat templates take them.</summary>
internal static class ChatMessages
{
    // Without white space, which would be tokens of the prompt.
    private static readonly JsonSerializerOptions s_compact = new(AIJsonUtilities.DefaultOptions) { WriteIndented = false };

    /// <summary>The messages.</summary>
    /// <param name="messages">The messages; one that has results of several functions becomes several.</param>
    /// <param name="instructions">A system message before them; null for none.</param>
    /// <exception cref="ArgumentException">A message has a content that is no text, no reasoning, and no call or result of a function.</exception>
    internal static JsonArray Of(IEnumerable<ChatMessage> messages, string? instructions)
    {
        JsonArray made = [];
        if (!string.IsNullOrEmpty(instructions))
        {
            made.Add(new JsonObject { ["role"] = "system", ["content"] = instructions });
        }

        Dictionary<string, string> names = [];
        foreach (var message in messages)
        {
            foreach (var part in Parts(message, names))
            {
                made.Add(part);
            }
        }

        return made;
    }

    private static IEnumerable<JsonNode> Parts(ChatMessage message, Dictionary<string, string> names)
    {
        RequireKnown(message);
        var calls = message.Contents.OfType<FunctionCallContent>().ToList();
        foreach (var call in calls)
        {
            names[call.CallId] = call.Name;
        }

        var results = message.Contents.OfType<FunctionResultContent>().ToList();
        var text = string.Concat(message.Contents.OfType<TextContent>().Select(static c => c.Text));
        if (results.Count == 0 || text.Length > 0 || calls.Count > 0)
        {
            yield return Said(message, text, calls);
        }

        foreach (var result in results)
        {
            yield return Returned(result, names.GetValueOrDefault(result.CallId));
        }
    }

    private static JsonObject Said(ChatMessage message, string text, List<FunctionCallContent> calls)
    {
        var made = new JsonObject { ["role"] = message.Role.Value, ["content"] = calls.Count > 0 && text.Length == 0 ? null : text };
        if (string.Concat(message.Contents.OfType<TextReasoningContent>().Select(static c => c.Text)) is { Length: > 0 } reasoning)
        {
            made["reasoning_content"] = reasoning;
        }

        if (calls.Count > 0)
        {
            made["tool_calls"] = new JsonArray([.. calls.Select(static c => new JsonObject
            {
                ["id"] = c.CallId,
                ["type"] = "function",
                ["function"] = new JsonObject { ["name"] = c.Name, ["arguments"] = c.Arguments is null ? new JsonObject() : JsonSerializer.SerializeToNode(c.Arguments, AIJsonUtilities.DefaultOptions) },
            })]);
        }

        return made;
    }

    private static JsonObject Returned(FunctionResultContent result, string? name)
    {
        var made = new JsonObject { ["role"] = "tool", ["tool_call_id"] = result.CallId, ["content"] = TextOf(result.Result) };
        if (name is not null)
        {
            made["name"] = name;
        }

        return made;
    }

    // A text as it is, anything else as JSON.
    private static string TextOf(object? result) => result switch
    {
        null => "",
        string text => text,
        JsonElement { ValueKind: JsonValueKind.String } text => text.GetString()!,
        TextContent content => content.Text,
        _ => JsonSerializer.Serialize(result, s_compact.GetTypeInfo(result.GetType())),
    };

    private static void RequireKnown(ChatMessage message)
    {
        var unknown = message.Contents.FirstOrDefault(static c => c is not (TextContent or TextReasoningContent or FunctionCallContent or FunctionResultContent or UsageContent));
        if (unknown is not null)
        {
            throw new ArgumentException($"a message of the {message.Role.Value} has {unknown.GetType().Name}, and this model reads text, reasoning, and calls and results of functions alone.", nameof(message));
        }
    }
}
