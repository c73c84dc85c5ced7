using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>The tools that an answer may call.</summary>
internal sealed class ToolSchemas
{
    private readonly List<ToolSchema> _all;

    private ToolSchemas(List<ToolSchema> all) => _all = all;

    /// <summary>The tools in order.</summary>
    internal IReadOnlyList<ToolSchema> All => _all;

    /// <summary>Reads tools as OpenAI has them: objects of a function with a name and parameters, or functions themselves.</summary>
    internal static ToolSchemas Of(JsonNode? tools) => new([.. (tools as JsonArray ?? []).OfType<JsonObject>()
        .Select(static t => t["function"] as JsonObject ?? t)
        .Where(static f => f["name"] is JsonValue name && name.GetValueKind() == JsonValueKind.String)
        .Select(static f => new ToolSchema(f["name"]!.GetValue<string>(), f["parameters"] as JsonObject, f["strict"] is JsonValue strict && strict.GetValueKind() == JsonValueKind.True))]);

    /// <summary>An argument that was written as text, as its schema has it: a string as it stands, anything else from JSON.</summary>
    internal JsonNode? Argument(string tool, string name, string text)
    {
        var types = _all.Find(t => t.Name == tool)?.TypesOf(name) ?? [];
        if (types is ["string"])
        {
            return text;
        }

        var value = Parsed(text);
        return value.IsJson && (types.Count == 0 || types.Exists(t => SchemaScalars.IsOf(value.Node, t))) ? value.Node : text;
    }

    private static (bool IsJson, JsonNode? Node) Parsed(string text)
    {
        try
        {
            return (true, JsonNode.Parse(text));
        }
        catch (JsonException)
        {
            // Some models, and some templates, write values as Python does.
            return PythonLiteral.TryParse(text, out var value) ? (true, value) : (false, null);
        }
    }
}

/// <summary>A tool.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Parameters">The JSON schema of its arguments; null if it has none.</param>
/// <param name="IsStrict">Whether its schema must be kept to.</param>
internal sealed record ToolSchema(string Name, JsonObject? Parameters, bool IsStrict)
{
    private static readonly string[] s_definitions = ["$defs", "definitions"];

    /// <summary>The types that the schema names for an argument; none if it does not say.</summary>
    internal List<string> TypesOf(string argument) => Types(Parameters?["properties"]?[argument], 0).Distinct().ToList();

    /// <summary>The arguments as a JSON object.</summary>
    /// <exception cref="GrammarException">A strict tool's schema cannot be enforced.</exception>
    internal GrammarNode Json()
    {
        if (Parameters is null)
        {
            return JsonValues.Object;
        }

        try
        {
            var value = JsonGrammar.Value(Parameters);
            _ = new Grammar(value);
            return value;
        }
        catch (GrammarException) when (!IsStrict)
        {
            return JsonValues.Object;
        }
    }

    /// <summary>The arguments one by one, each between marks: strings as they stand, others in JSON.</summary>
    /// <param name="open">What stands before the value of an argument, by its name.</param>
    /// <param name="line">What stands between a value and its end.</param>
    /// <param name="close">What ends a value.</param>
    /// <param name="after">What stands after each argument.</param>
    internal GrammarNode Typed(Func<string, GrammarNode> open, GrammarNode line, string close, GrammarNode after)
    {
        var required = (Parameters?["required"] as JsonArray)?.Select(static n => n?.ToString()).ToHashSet() ?? [];
        return GrammarNode.Row([.. (Parameters?["properties"] as JsonObject ?? []).Select(p =>
        {
            var one = GrammarRule.Of(p.Key, GrammarNode.Row(open(p.Key), Value(p.Key, p.Value, line, close), after));
            return required.Contains(p.Key) ? one : GrammarNode.Maybe(one);
        })]);
    }

    private GrammarNode Value(string name, JsonNode? schema, GrammarNode line, string close)
    {
        var text = GrammarNode.Until(close);
        var ends = GrammarNode.Row(line, GrammarNode.Mark(close));
        var isPlainText = TypesOf(name) is ["string"];
        if (isPlainText && (schema as JsonObject)?["enum"] is JsonArray values)
        {
            return GrammarNode.Row(GrammarNode.AnyOf([.. values.Select(static v => GrammarNode.Of(v?.ToString() ?? ""))]), ends);
        }

        if (isPlainText || TypesOf(name).Count == 0)
        {
            return text;
        }

        try
        {
            // References are to places of the whole schema.
            var whole = schema!.DeepClone().AsObject();
            foreach (var keyword in s_definitions.Where(k => Parameters!.ContainsKey(k)))
            {
                whole[keyword] = Parameters![keyword]!.DeepClone();
            }

            var value = JsonGrammar.Value(whole);
            _ = new Grammar(value);
            return GrammarNode.Row(value, ends);
        }
        catch (GrammarException) when (!IsStrict)
        {
            return GrammarNode.Row(JsonValues.Value, ends);
        }
    }

    private List<string> Types(JsonNode? schema, int depth)
    {
        if (schema is not JsonObject map || depth > 8)
        {
            return [];
        }

        if (map["$ref"] is JsonValue place && place.ToString().StartsWith("#/", StringComparison.Ordinal))
        {
            return Types(place.ToString().Split('/').Skip(1).Aggregate((JsonNode?)Parameters, static (at, part) => (at as JsonObject)?[part]), depth + 1);
        }

        var types = map["type"] switch
        {
            JsonArray many => many.Select(static t => t?.ToString() ?? "").ToList(),
            { } one => [one.ToString()],
            null when map["enum"] is JsonArray values => [.. values.Select(static v => SchemaKeywords.Types.First(t => t != "number" && SchemaScalars.IsOf(v, t) || t == "boolean"))],
            _ => [.. (map["anyOf"] as JsonArray ?? map["oneOf"] as JsonArray ?? []).SelectMany(b => Types(b, depth + 1))],
        };
        return map["nullable"]?.ToString() == "true" ? [.. types, "null"] : types;
    }
}
