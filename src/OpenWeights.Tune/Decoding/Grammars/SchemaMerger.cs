using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Makes one schema of several that all have to hold.</summary>
internal static class SchemaMerger
{
    private static readonly HashSet<string> s_larger = ["minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum"];
    private static readonly HashSet<string> s_smaller = ["maxLength", "maxItems", "maxProperties", "maximum", "exclusiveMaximum"];

    /// <summary>A schema of what two demand; neither has $ref or allOf.</summary>
    /// <exception cref="GrammarException">They cannot be merged.</exception>
    internal static JsonObject Merge(JsonObject one, JsonObject other, string path)
    {
        var merged = one.DeepClone().AsObject();
        foreach (var (keyword, value) in other)
        {
            if (keyword is not ("properties" or "additionalProperties") && SchemaKeywords.IsAssertion(keyword))
            {
                merged[keyword] = merged.ContainsKey(keyword) ? Both(keyword, merged[keyword], value, path) : value?.DeepClone();
            }
            else
            {
                _ = merged.TryAdd(keyword, value?.DeepClone());
            }
        }

        MergeProperties(merged, one, other);
        return merged;
    }

    private static JsonNode? Both(string keyword, JsonNode? one, JsonNode? other, string path) =>
        JsonNode.DeepEquals(one, other) ? one?.DeepClone()
        : keyword == "required" && one is JsonArray first && other is JsonArray second ? new JsonArray([.. first.Concat(second).Select(static n => n?.ToString()).Distinct().Select(static n => (JsonNode?)n)])
        : keyword == "type" ? SharedTypes(one, other)
        : keyword == "enum" && one is JsonArray these && other is JsonArray those ? new JsonArray([.. these.Where(a => those.Any(b => JsonNode.DeepEquals(a, b))).Select(static n => n?.DeepClone())])
        : keyword == "nullable" ? false
        : keyword == "items" && one is not JsonArray && other is not JsonArray ? AllOf(one, other)
        : (s_larger.Contains(keyword) || s_smaller.Contains(keyword)) && Number(one) is { } a && Number(other) is { } b ? (a > b == s_larger.Contains(keyword) ? one : other)?.DeepClone()
        : throw SchemaKeywords.Error(path, $"demands two different \"{keyword}\" at once, which cannot be enforced together");

    private static JsonArray SharedTypes(JsonNode? one, JsonNode? other)
    {
        var (these, those) = (Types(one), Types(other));
        var shared = SchemaKeywords.Types.Where(t => Allows(these, t) && Allows(those, t)).ToList();
        _ = shared.Contains("number") && shared.Remove("integer");
        return new JsonArray([.. shared.Select(static t => (JsonNode?)t)]);
    }

    private static bool Allows(List<string?> types, string type) => types.Contains(type) || (type == "integer" && types.Contains("number"));

    private static List<string?> Types(JsonNode? node) => node is JsonArray many ? [.. many.Select(static t => t?.ToString())] : [node?.ToString()];

    private static void MergeProperties(JsonObject merged, JsonObject one, JsonObject other)
    {
        if (one["properties"] is JsonObject || other["properties"] is JsonObject)
        {
            var (these, those) = (one["properties"] as JsonObject ?? [], other["properties"] as JsonObject ?? []);
            var all = new JsonObject();
            foreach (var name in these.Select(static p => p.Key).Concat(those.Select(static p => p.Key)).Distinct(StringComparer.Ordinal))
            {
                all[name] = AllOf(Property(one, these, name), Property(other, those, name));
            }

            merged["properties"] = all;
        }

        if (one.ContainsKey("additionalProperties") && other.ContainsKey("additionalProperties"))
        {
            merged["additionalProperties"] = AllOf(one["additionalProperties"], other["additionalProperties"]);
        }
    }

    // What a schema says of a property that another has.
    private static JsonNode? Property(JsonObject schema, JsonObject properties, string name) =>
        properties.TryGetPropertyValue(name, out var own) ? own : schema.TryGetPropertyValue("additionalProperties", out var others) ? others : true;

    private static JsonNode? AllOf(JsonNode? one, JsonNode? other) =>
        Is(one, JsonValueKind.True) || Is(other, JsonValueKind.False) || JsonNode.DeepEquals(one, other) ? other?.DeepClone()
        : Is(other, JsonValueKind.True) || Is(one, JsonValueKind.False) ? one?.DeepClone()
        : new JsonObject { ["allOf"] = new JsonArray(one?.DeepClone(), other?.DeepClone()) };

    private static bool Is(JsonNode? node, JsonValueKind kind) => node is JsonValue value && value.GetValueKind() == kind;

    private static decimal? Number(JsonNode? node) => Is(node, JsonValueKind.Number) && node!.AsValue().TryGetValue<decimal>(out var value) ? value : null;
}
