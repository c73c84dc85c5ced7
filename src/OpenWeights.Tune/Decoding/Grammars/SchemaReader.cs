using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Reads a JSON schema as an expression of the texts of its values.</summary>
internal sealed class SchemaReader
{
    private const int MostNested = 200;

    // Schemas of a few lines that refer to each other can stand for very large ones.
    private const int MostParts = 20_000;

    private readonly JsonNode? _root;
    private readonly Dictionary<string, GrammarRule> _byPlace = new(StringComparer.Ordinal);
    private readonly Dictionary<string, GrammarRule> _byText = new(StringComparer.Ordinal);
    private readonly Dictionary<string, JsonObject> _flat = new(StringComparer.Ordinal);
    private int _nested;
    private int _parts;

    /// <summary>Creates a reader.</summary>
    /// <param name="root">The schema, to which its references refer.</param>
    internal SchemaReader(JsonNode? root) => _root = root;

    /// <summary>Reads the schema.</summary>
    /// <exception cref="GrammarException">It is invalid or cannot be enforced.</exception>
    internal GrammarNode Read() => Referred("#", "#");

    /// <summary>Reads a part of the schema.</summary>
    internal GrammarNode Read(JsonNode? schema, string path)
    {
        if (schema is JsonValue flag && flag.GetValueKind() is JsonValueKind.True or JsonValueKind.False)
        {
            return flag.GetValue<bool>() ? JsonValues.Value : GrammarNode.Nothing;
        }

        var map = schema as JsonObject ?? throw SchemaKeywords.Error(path, "is neither an object nor true or false");
        if (++_nested > MostNested)
        {
            throw SchemaKeywords.Error(path, "is nested too deeply");
        }

        Count(path);
        SchemaKeywords.RequireSupported(map, path);
        var read = ReadMap(map, path);
        _nested--;
        return read;
    }

    private GrammarNode ReadMap(JsonObject map, string path)
    {
        var assertions = map.Select(static k => k.Key).Where(SchemaKeywords.IsAssertion).ToList();
        if (assertions is ["$ref"])
        {
            return Referred(Reference(map, path), path);
        }

        if (!map.ContainsKey("$ref") && !map.ContainsKey("allOf"))
        {
            return ReadFlat(map, path);
        }

        // One that refers to itself while it is merged is met again with the same text.
        var flat = Flat(map, path, 0);
        var text = flat.ToJsonString();
        if (!_byText.TryGetValue(text, out var rule))
        {
            _byText[text] = rule = new GrammarRule(path);
            rule.Body = ReadFlat(flat, path);
        }

        return new GrammarNode.Call(rule);
    }

    private GrammarNode ReadFlat(JsonObject map, string path)
    {
        var keyword = map.ContainsKey("anyOf") ? "anyOf" : "oneOf";
        if (map[keyword] is not { } node)
        {
            return ReadTypes(map, path);
        }

        var branches = node as JsonArray ?? throw SchemaKeywords.Error(path, $"has an \"{keyword}\" that is no list");
        var rest = map.DeepClone().AsObject();
        _ = rest.Remove(keyword);
        var isAlone = !rest.Any(static k => SchemaKeywords.IsAssertion(k.Key));
        return GrammarNode.AnyOf([.. branches.Select((b, i) => isAlone || b is not JsonObject
            ? b is JsonValue always && always.GetValueKind() == JsonValueKind.True ? Read(rest, path) : Read(b, $"{path}/{keyword}/{i}")
            : Read(new JsonObject { ["allOf"] = new JsonArray(rest.DeepClone(), b.DeepClone()) }, $"{path}/{keyword}/{i}"))]);
    }

    private GrammarNode ReadTypes(JsonObject map, string path)
    {
        if (map.ContainsKey("const") || map.ContainsKey("enum"))
        {
            return Values(map, path);
        }

        if (SchemaKeywords.TypesOf(map, path) is not { } types)
        {
            return JsonValues.Value;
        }

        return GrammarNode.AnyOf([.. types.Where(t => t != "integer" || !types.Contains("number")).Select(t => t switch
        {
            "object" => SchemaObjects.Object(this, map, path),
            "array" => SchemaObjects.Array(this, map, path),
            "string" => SchemaScalars.String(map, path),
            "integer" => SchemaScalars.Integer(map, path),
            "number" => SchemaScalars.Number(map, path),
            "boolean" => JsonValues.Boolean,
            _ => JsonValues.Null,
        })]);
    }

    private static GrammarNode Values(JsonObject map, string path)
    {
        var others = map.Select(static k => k.Key).Where(static k => SchemaKeywords.IsAssertion(k) && k is not ("type" or "enum" or "const" or "nullable")).ToList();
        if (others.Count > 0)
        {
            throw SchemaKeywords.Error(path, $"has \"{others[0]}\" beside \"enum\" or \"const\", which cannot be enforced together; leave out the values that are not valid");
        }

        var values = map["enum"] switch
        {
            JsonArray list => list,
            null when !map.ContainsKey("enum") => new JsonArray(map["const"]?.DeepClone()),
            _ => throw SchemaKeywords.Error(path, "has an \"enum\" that is no list"),
        };
        var types = map.ContainsKey("type") ? SchemaKeywords.TypesOf(map, path) : null;
        return GrammarNode.AnyOf([.. values
            .Where(v => !map.ContainsKey("const") || JsonNode.DeepEquals(v, map["const"]))
            .Where(v => types is null || types.Any(t => SchemaScalars.IsOf(v, t)))
            .Select(SchemaScalars.Value)]);
    }

    private GrammarNode Referred(string place, string from)
    {
        if (!_byPlace.TryGetValue(place, out var rule))
        {
            _byPlace[place] = rule = new GrammarRule(place);
            rule.Body = Read(Find(place, from), place);
        }

        return new GrammarNode.Call(rule);
    }

    // A schema without references and allOf at its top.
    private JsonObject Flat(JsonNode? schema, string path, int depth)
    {
        if (schema is JsonValue flag && flag.GetValueKind() is JsonValueKind.True or JsonValueKind.False)
        {
            return flag.GetValue<bool>() ? [] : new JsonObject { ["enum"] = new JsonArray() };
        }

        var map = schema as JsonObject ?? throw SchemaKeywords.Error(path, "is neither an object nor true or false");
        if (depth > MostNested)
        {
            throw SchemaKeywords.Error(path, "refers to itself without end");
        }

        Count(path);
        SchemaKeywords.RequireSupported(map, path);
        var own = map.DeepClone().AsObject();
        _ = own.Remove("$ref");
        _ = own.Remove("allOf");
        _ = own.Remove("$defs");
        _ = own.Remove("definitions");
        var flat = own;
        if (map.ContainsKey("$ref"))
        {
            var place = Reference(map, path);
            if (!_flat.TryGetValue(place, out var referred))
            {
                _flat[place] = referred = Flat(Find(place, path), place, depth + 1);
            }

            flat = SchemaMerger.Merge(referred, flat, path);
        }

        if (map["allOf"] is { } all)
        {
            var branches = all as JsonArray ?? throw SchemaKeywords.Error(path, "has an \"allOf\" that is no list");
            for (var i = 0; i < branches.Count; i++)
            {
                flat = SchemaMerger.Merge(flat, Flat(branches[i], $"{path}/allOf/{i}", depth + 1), path);
            }
        }

        return flat;
    }

    private void Count(string path)
    {
        if (++_parts > MostParts)
        {
            throw SchemaKeywords.Error(path, $"makes the whole schema larger than the {MostParts} parts that can be enforced; refer to parts that repeat by \"$ref\", and leave out \"allOf\" of many of them");
        }
    }

    private static string Reference(JsonObject map, string path)
    {
        var place = SchemaKeywords.Text(map, "$ref", path) ?? throw SchemaKeywords.Error(path, "has a \"$ref\" that is no text");
        return place == "#" || place.StartsWith("#/", StringComparison.Ordinal)
            ? place
            : throw SchemaKeywords.Error(path, $"refers to \"{place}\"; only places in the same schema, such as #/$defs/name, can be referred to");
    }

    private JsonNode? Find(string place, string from)
    {
        var at = _root;
        foreach (var part in place.Split('/').Skip(1))
        {
            var name = Uri.UnescapeDataString(part).Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            at = at switch
            {
                JsonObject map when map.TryGetPropertyValue(name, out var next) => next,
                JsonArray list when int.TryParse(name, out var index) && index >= 0 && index < list.Count => list[index],
                _ => throw SchemaKeywords.Error(from, $"refers to \"{place}\", which is not there"),
            };
        }

        return at;
    }
}
