using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>What the keywords of JSON schemas mean here, and how their values are read.</summary>
internal static class SchemaKeywords
{
    private static readonly JsonSerializerOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    // Keywords that change what is valid and are not enforced.
    private static readonly HashSet<string> s_refused = new(StringComparer.Ordinal)
    {
        "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties", "propertyNames", "unevaluatedProperties",
        "unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems", "multipleOf", "divisibleBy", "disallow", "extends", "$dynamicRef", "$recursiveRef",
    };

    private static readonly Dictionary<string, string[]> s_ofTypes = new(StringComparer.Ordinal)
    {
        ["object"] = ["properties", "required", "additionalProperties", "minProperties", "maxProperties"],
        ["array"] = ["items", "prefixItems", "additionalItems", "minItems", "maxItems"],
        ["string"] = ["pattern", "format", "minLength", "maxLength"],
        ["number"] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
    };

    private static readonly HashSet<string> s_known = [.. s_ofTypes.Values.SelectMany(static k => k), "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "nullable"];

    /// <summary>The types in the order in which they are tried.</summary>
    internal static IReadOnlyList<string> Types { get; } = ["object", "array", "string", "number", "integer", "boolean", "null"];

    /// <summary>Whether a keyword of a schema says what is valid; others describe.</summary>
    internal static bool IsAssertion(string keyword) => s_known.Contains(keyword);

    /// <summary>Refuses keywords that would have to be enforced and are not.</summary>
    internal static void RequireSupported(JsonObject schema, string path)
    {
        foreach (var (keyword, value) in schema)
        {
            // uniqueItems: false and the like demand nothing.
            if (s_refused.Contains(keyword) && !(value is JsonValue flag && flag.GetValueKind() == JsonValueKind.False && keyword is "uniqueItems"))
            {
                throw Error(path, $"has \"{keyword}\", which cannot be enforced while sampling; leave it out");
            }
        }
    }

    /// <summary>The types that a schema allows; null for any.</summary>
    internal static IReadOnlyList<string>? TypesOf(JsonObject schema, string path)
    {
        var types = schema["type"] switch
        {
            null => s_ofTypes.Where(t => t.Value.Any(schema.ContainsKey)).Select(static t => t.Key).ToList(),
            JsonArray many => [.. many.Select(t => Type(t, path))],
            var one => new List<string> { Type(one, path) },
        };
        if (schema["type"] is null && types.Count == 0)
        {
            return null;
        }

        if (schema["nullable"] is JsonValue nullable && nullable.GetValueKind() == JsonValueKind.True)
        {
            types.Add("null");
        }

        return [.. types.Distinct()];
    }

    /// <summary>A keyword's text; null if it is absent.</summary>
    internal static string? Text(JsonObject schema, string keyword, string path) => schema[keyword] switch
    {
        null => null,
        JsonValue value when value.GetValueKind() == JsonValueKind.String => value.GetValue<string>(),
        _ => throw Error(path, $"has a \"{keyword}\" that is no text"),
    };

    /// <summary>A keyword's number of things; null if it is absent.</summary>
    internal static int? Count(JsonObject schema, string keyword, string path) => schema[keyword] is not { } node ? null
        : node is JsonValue value && value.GetValueKind() == JsonValueKind.Number && decimal.TryParse(value.ToJsonString(), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number >= 0 && number == decimal.Truncate(number)
            ? (int)Math.Min(number, int.MaxValue)
            : throw Error(path, $"has a \"{keyword}\" that is no whole number from 0 up");

    /// <summary>A keyword's number; null if it is absent.</summary>
    internal static decimal? Number(JsonObject schema, string keyword, string path) => schema[keyword] is not { } node ? null
        : node is JsonValue value && value.GetValueKind() == JsonValueKind.Number && decimal.TryParse(value.ToJsonString(), NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
            ? number
            : throw Error(path, $"has a \"{keyword}\" that is no number of at most 28 digits");

    /// <summary>A text as a JSON string.</summary>
    internal static string Quoted(string text) => JsonSerializer.Serialize(text, s_plain);

    /// <summary>An error at a place of a schema.</summary>
    internal static GrammarException Error(string path, string what) => new($"the JSON schema{(path == "#" ? "" : $" at {path}")} {what}.");

    private static string Type(JsonNode? node, string path) =>
        node is JsonValue value && value.GetValueKind() == JsonValueKind.String && Types.Contains(value.GetValue<string>())
            ? value.GetValue<string>()
            : throw Error(path, $"has the type {node?.ToJsonString() ?? "null"}, which is none; there are {string.Join(", ", Types)}");
}
