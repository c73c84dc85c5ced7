using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Converts tool calls to the form that chat templates expect: OpenAI's, with the arguments as an object instead of a text.
/// </summary>
internal static class ToolCalls
{
    /// <summary>
    /// Parses the calls in a text, as in ShareGPT's function_call: {"name": ..., "arguments": {...}}, or a list of those.
    /// </summary>
    /// <exception cref="InvalidDataException">The text is not a call.</exception>
    internal static JsonArray OfText(DataRow row, string? text, int message)
    {
        var node = row.Nested($"message {message}", text ?? "");
        return Of(row, node is JsonArray ? node : new JsonArray(node), message) ?? throw row.Error($"message {message} contains no tool call.");
    }

    /// <summary>Converts a list of calls.</summary>
    /// <exception cref="InvalidDataException">It is not a list of calls.</exception>
    internal static JsonArray? Of(DataRow row, JsonNode node, int message)
    {
        var list = node as JsonArray ?? throw row.Error($"\"tool_calls\" of message {message} must be a list.");
        var calls = new JsonArray();
        foreach (var item in list)
        {
            var call = item as JsonObject ?? throw row.Error($"a tool call of message {message} is not an object.");
            var made = call["function"] is JsonObject ? (JsonObject)call.DeepClone() : new JsonObject { ["type"] = "function", ["function"] = call.DeepClone() };
            var function = made["function"]!.AsObject();
            if (function["name"] is not JsonValue name || name.GetValueKind() != JsonValueKind.String)
            {
                throw row.Error($"a tool call of message {message} has no name.");
            }

            if (function["arguments"] is JsonValue arguments && arguments.GetValueKind() == JsonValueKind.String)
            {
                function["arguments"] = row.Nested($"the arguments of a tool call of message {message}", arguments.GetValue<string>())?.DeepClone();
            }

            calls.Add(made);
        }

        return calls.Count > 0 ? calls : null;
    }

    /// <summary>Throws if a rendered chat lacks a call or a tool because the template does not support them.</summary>
    /// <exception cref="InvalidDataException">The name of a called function or of a tool is not in the text.</exception>
    internal static void RequireIn(string text, DataRow row, JsonArray messages, JsonArray? tools)
    {
        string? Missing(IEnumerable<JsonNode?> functions) =>
            functions.Select(static f => f?["function"]?["name"]?.ToString()).FirstOrDefault(n => n is not null && !text.Contains(n, StringComparison.Ordinal));
        if (Missing(messages.SelectMany(static m => m!["tool_calls"] as JsonArray ?? [])) is { } call)
        {
            throw row.Error($"the model's chat template does not write tool calls; the call of {call} would be lost. Take a template that does (model.chat_template: FILE.jinja) or a model that has one, or write the call into the content.");
        }

        if (Missing(tools ?? []) is { } tool)
        {
            throw row.Error($"the model's chat template does not write tools; {tool} would be lost. Take a template that does (model.chat_template: FILE.jinja) or a model that has one, or describe the tools in the system's message.");
        }
    }
}
