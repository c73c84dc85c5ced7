using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>
/// Reads what schemas say of objects and arrays. Members come in the schema's order. Members and elements beside those that it lists are written
/// only where it says what they are (additionalProperties, items), or lists none.
/// </summary>
internal static class SchemaObjects
{
    /// <summary>The objects of a schema.</summary>
    internal static GrammarNode Object(SchemaReader reader, JsonObject map, string path)
    {
        var properties = Map(map, "properties", path);
        var required = Names(map, path);
        var (least, most) = (SchemaKeywords.Count(map, "minProperties", path) ?? 0, SchemaKeywords.Count(map, "maxProperties", path));
        var others = map.TryGetPropertyValue("additionalProperties", out var said) ? said : properties.Count == 0 && required.Count == 0;
        var names = properties.Select(static p => p.Key).Concat(required).Distinct(StringComparer.Ordinal).ToList();
        var hasOthers = !(others is JsonValue flag && flag.GetValueKind() == JsonValueKind.False);
        if (names.Count > 0 && (least > required.Count || (most is not null && (hasOthers || most < names.Count))))
        {
            throw SchemaKeywords.Error(path, "has \"minProperties\" or \"maxProperties\" beside \"properties\", which cannot be enforced together; leave them out");
        }

        GrammarNode? other = null;
        if (hasOthers)
        {
            var key = names.Count == 0 ? JsonValues.String : JsonValues.Text(CharAutomaton.OfTexts(names).Not());
            other = GrammarRule.Of($"{path}/additionalProperties", GrammarNode.Row(key, JsonValues.Colon, reader.Read(others, $"{path}/additionalProperties")));
        }

        if (least > most || (names.Count == 0 && other is null && least > 0))
        {
            return GrammarNode.Nothing;
        }

        return JsonValues.Braces(names.Count == 0
            ? other is null ? GrammarNode.Empty : JsonValues.List(other, least, most)
            : Members([.. names.Select(n => (Member(n), required.Contains(n)))], other, path));

        GrammarNode Member(string name) => GrammarRule.Of($"{path}/properties/{name}", GrammarNode.Row(
            GrammarNode.Of(SchemaKeywords.Quoted(name)),
            JsonValues.Colon,
            properties.TryGetPropertyValue(name, out var schema) ? reader.Read(schema, $"{path}/properties/{name}") : said is null ? JsonValues.Value : reader.Read(said, $"{path}/additionalProperties")));
    }

    /// <summary>The arrays of a schema.</summary>
    internal static GrammarNode Array(SchemaReader reader, JsonObject map, string path)
    {
        var (keyword, restKeyword) = map["items"] is JsonArray ? ("items", "additionalItems") : ("prefixItems", "items");
        var first = map[keyword] switch
        {
            null => [],
            JsonArray list => list.Select((s, i) => GrammarRule.Of($"{path}/{keyword}/{i}", reader.Read(s, $"{path}/{keyword}/{i}"))).ToList<GrammarNode>(),
            _ => throw SchemaKeywords.Error(path, $"has a \"{keyword}\" that is no list"),
        };
        var (least, most) = (SchemaKeywords.Count(map, "minItems", path) ?? 0, SchemaKeywords.Count(map, "maxItems", path));
        var others = map.TryGetPropertyValue(restKeyword, out var said) ? said : first.Count == 0 || least > first.Count;
        var isNone = others is JsonValue flag && flag.GetValueKind() == JsonValueKind.False;
        var other = GrammarRule.Of($"{path}/{restKeyword}", isNone ? GrammarNode.Nothing : reader.Read(others, $"{path}/{restKeyword}"));
        return least > most || (isNone && least > first.Count) ? GrammarNode.Nothing : JsonValues.Brackets(Elements(first, other, least, isNone ? Math.Min(most ?? int.MaxValue, first.Count) : most));
    }

    private static GrammarNode Members(List<(GrammarNode Member, bool Required)> members, GrammarNode? other, string path)
    {
        // What can follow once something is written, from the last member to the first.
        var after = new GrammarNode[members.Count + 1];
        after[^1] = other is null ? GrammarNode.Empty : GrammarRule.Of(path, new GrammarNode.Repeat(GrammarNode.Row(JsonValues.Comma, other), 0, null));
        for (var i = members.Count - 1; i >= 0; i--)
        {
            var with = GrammarNode.Row(JsonValues.Comma, members[i].Member, after[i + 1]);
            after[i] = GrammarRule.Of(path, members[i].Required ? with : GrammarNode.AnyOf(with, after[i + 1]));
        }

        // The first that is written is a required one, or stands before all of them.
        var starts = new List<GrammarNode>();
        for (var i = 0; i < members.Count; i++)
        {
            starts.Add(GrammarNode.Row(members[i].Member, after[i + 1]));
            if (members[i].Required)
            {
                return GrammarNode.AnyOf(starts);
            }
        }

        if (other is not null)
        {
            starts.Add(GrammarNode.Row(other, after[^1]));
        }

        return GrammarNode.Maybe(GrammarNode.AnyOf(starts));
    }

    private static GrammarNode Elements(List<GrammarNode> first, GrammarNode other, int least, int? most)
    {
        if (most == 0)
        {
            return GrammarNode.Empty;
        }

        // What can follow the first elements, from the last of them to the first.
        var at = Math.Max(first.Count, 1);
        var after = most <= at ? GrammarNode.Empty : new GrammarNode.Repeat(GrammarNode.Row(JsonValues.Comma, other), Math.Max(least - at, 0), most - at);
        for (var i = at - 1; i >= 1; i--)
        {
            var with = GrammarNode.Row(JsonValues.Comma, first[i], after);
            after = most <= i ? GrammarNode.Empty : least > i ? with : GrammarNode.Maybe(with);
        }

        var some = GrammarNode.Row(first.Count > 0 ? first[0] : other, after);
        return least > 0 ? some : GrammarNode.Maybe(some);
    }

    private static JsonObject Map(JsonObject map, string keyword, string path) => map[keyword] switch
    {
        null => [],
        JsonObject properties => properties,
        _ => throw SchemaKeywords.Error(path, $"has a \"{keyword}\" that is no object"),
    };

    private static List<string> Names(JsonObject map, string path) => map["required"] switch
    {
        null => [],
        JsonArray list => [.. list.Select(n => n is JsonValue name && name.GetValueKind() == JsonValueKind.String ? name.GetValue<string>() : throw SchemaKeywords.Error(path, "has a \"required\" with something else than names")).Distinct(StringComparer.Ordinal)],
        _ => throw SchemaKeywords.Error(path, "has a \"required\" that is no list"),
    };
}
