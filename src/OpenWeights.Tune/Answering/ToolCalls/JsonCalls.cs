using System.Text.Json;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>Calls that are written as JSON objects with a name and arguments.</summary>
internal static class JsonCalls
{
    private static readonly string[] s_names = ["name", "tool_name", "function_name"];
    private static readonly string[] s_arguments = ["arguments", "parameters"];

    /// <summary>Reads an object, an array of them, or several objects in a row.</summary>
    /// <param name="text">The text; calls that are none make it wrong.</param>
    /// <param name="idOf">Whether an identifier of the model's own is kept.</param>
    internal static List<ToolCall> Read(CallText text, Predicate<string>? idOf = null) => [.. Elements(text).Select(e => Call(text, e, idOf)).OfType<ToolCall>()];

    /// <summary>The call that an object is; null, and the text is wrong, if it is none.</summary>
    internal static ToolCall? Call(CallText text, JsonElement element, Predicate<string>? idOf = null)
    {
        var body = element.ValueKind == JsonValueKind.Object && element.TryGetProperty("function", out var inner) && inner.ValueKind == JsonValueKind.Object ? inner : element;
        if (body.ValueKind != JsonValueKind.Object || Find(body, s_names) is not { ValueKind: JsonValueKind.String } name || name.GetString() is not { Length: > 0 } named)
        {
            text.Refuse();
            return null;
        }

        var arguments = Find(body, s_arguments) switch
        {
            null or { ValueKind: JsonValueKind.Null } => "{}",
            { ValueKind: JsonValueKind.Object } map => map.GetRawText(),
            { ValueKind: JsonValueKind.String } written when IsObject(written.GetString()!) => written.GetString()!,
            _ => null,
        };
        if (arguments is null)
        {
            text.Refuse();
            return null;
        }

        var id = Find(element, ["id"]) is { ValueKind: JsonValueKind.String } given && idOf?.Invoke(given.GetString()!) == true ? given.GetString() : null;
        return new ToolCall(named, arguments, id);
    }

    /// <summary>An object of a call.</summary>
    /// <param name="tool">The tool.</param>
    /// <param name="name">What its name's key is.</param>
    /// <param name="arguments">What the arguments' key is.</param>
    internal static GrammarNode Grammar(ToolSchema tool, string name = "name", string arguments = "arguments") => JsonValues.Braces(GrammarNode.Row(
        GrammarNode.Of(SchemaKeywords.Quoted(name)), JsonValues.Colon, GrammarNode.Of(SchemaKeywords.Quoted(tool.Name)), JsonValues.Comma,
        GrammarNode.Of(SchemaKeywords.Quoted(arguments)), JsonValues.Colon, tool.Json()));

    /// <summary>An object of a call of one of several tools.</summary>
    internal static GrammarNode Grammar(IReadOnlyList<ToolSchema> tools, string name = "name", string arguments = "arguments") =>
        GrammarRule.Of("a call", GrammarNode.AnyOf([.. tools.Select(t => Grammar(t, name, arguments))]));

    /// <summary>One call or more.</summary>
    /// <param name="call">A call.</param>
    /// <param name="between">What stands between two.</param>
    /// <param name="most">The largest number of them.</param>
    internal static GrammarNode Several(GrammarNode call, GrammarNode between, int most) => GrammarNode.Row(call, new GrammarNode.Repeat(GrammarNode.Row(between, call), 0, most - 1));

    /// <summary>Whether a text is a JSON object.</summary>
    internal static bool IsObject(string text)
    {
        try
        {
            using var document = JsonDocument.Parse(text);
            return document.RootElement.ValueKind == JsonValueKind.Object;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static List<JsonElement> Elements(CallText text)
    {
        var first = text.Json();
        return first switch
        {
            null => [],
            { ValueKind: JsonValueKind.Array } many => [.. many.EnumerateArray()],
            { } one => [one],
        };
    }

    private static JsonElement? Find(JsonElement map, string[] names)
    {
        foreach (var name in names)
        {
            if (map.TryGetProperty(name, out var value))
            {
                return value;
            }
        }

        return null;
    }
}
