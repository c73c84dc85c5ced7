using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>Schemas made at random of what can be enforced, and values that they describe.</summary>
internal sealed class RandomSchemas(Random random)
{
    private static readonly (string Pattern, string[] Texts)[] s_patterns =
    [
        ("^[a-c]{2,4}$", ["ab", "cab", "aabb"]),
        ("^(foo|ba[rz])+$", ["foo", "barbaz"]),
        ("\\d", ["a1", "7", "x9y"]),
        ("^\\w+@\\w+$", ["a@b", "x_1@y"]),
        ("^é?[^\"a-z]*$", ["é", "ÀÜ 1", ""]),
    ];

    /// <summary>A schema.</summary>
    internal JsonNode Schema(int depth) => random.Next(depth > 0 ? 11 : 7) switch
    {
        0 => new JsonObject { ["type"] = "string" },
        1 => Lengths(),
        2 => new JsonObject { ["type"] = "string", ["pattern"] = s_patterns[random.Next(s_patterns.Length)].Pattern },
        3 => Bounds(),
        4 => new JsonObject { ["enum"] = new JsonArray("a", 1, true, null, "é\"x", new JsonArray(1, 2), new JsonObject { ["k"] = "v" }) },
        5 => new JsonObject { ["type"] = new JsonArray("boolean", "null", "number") },
        6 => new JsonObject { ["const"] = random.Next(2) == 0 ? "fixed" : 12.5 },
        7 => Array(depth),
        8 => new JsonObject { ["anyOf"] = new JsonArray(Schema(depth - 1), Schema(depth - 1)) },
        _ => Object(depth),
    };

    /// <summary>A value that a schema describes.</summary>
    internal JsonNode? Value(JsonNode schema)
    {
        var map = schema.AsObject();
        if (map["anyOf"] is JsonArray branches)
        {
            return Value(branches[random.Next(branches.Count)]!);
        }

        if (map["enum"] is JsonArray values)
        {
            return values[random.Next(values.Count)]?.DeepClone();
        }

        if (map["const"] is { } value)
        {
            return value.DeepClone();
        }

        return map["type"] switch
        {
            JsonArray => random.Next(3) switch { 0 => true, 1 => null, _ => Math.Round(random.NextDouble() * 1000, 3) },
            var type => type!.ToString() switch
            {
                "string" => Text(map),
                "integer" => Integer(map),
                "array" => new JsonArray([.. Enumerable.Range(0, random.Next(Count(map, "minItems", 0), Count(map, "maxItems", 3) + 1)).Select(_ => Value(map["items"]!))]),
                _ => Members(map),
            },
        };
    }

    private JsonObject Lengths()
    {
        var least = random.Next(4);
        var map = new JsonObject { ["type"] = "string", ["minLength"] = least };
        if (random.Next(3) > 0)
        {
            map["maxLength"] = least + random.Next(5);
        }

        return map;
    }

    private JsonObject Bounds()
    {
        var map = new JsonObject { ["type"] = "integer" };
        var least = random.Next(-1200, 1200);
        if (random.Next(2) > 0)
        {
            map[random.Next(2) > 0 ? "minimum" : "exclusiveMinimum"] = least;
        }

        if (random.Next(2) > 0)
        {
            map[random.Next(2) > 0 ? "maximum" : "exclusiveMaximum"] = least + 3 + random.Next(2000);
        }

        return map;
    }

    private JsonObject Array(int depth)
    {
        var least = random.Next(3);
        var map = new JsonObject { ["type"] = "array", ["items"] = Schema(depth - 1), ["minItems"] = least };
        if (random.Next(2) > 0)
        {
            map["maxItems"] = least + random.Next(1, 3);
        }

        return map;
    }

    private JsonObject Object(int depth)
    {
        var (properties, required) = (new JsonObject(), new JsonArray());
        foreach (var name in new[] { "a", "ab", "name", "ünd\"er" }.Where(_ => random.Next(3) > 0))
        {
            properties[name] = Schema(depth - 1);
            if (random.Next(2) > 0)
            {
                required.Add(name);
            }
        }

        var map = new JsonObject { ["type"] = "object", ["properties"] = properties, ["required"] = required };
        map["additionalProperties"] = random.Next(3) switch { 0 => true, 1 => Schema(0), _ => false };
        return map;
    }

    private string Text(JsonObject map)
    {
        if (map["pattern"]?.ToString() is { } pattern)
        {
            var texts = TextsOf(pattern);
            return texts[random.Next(texts.Length)];
        }

        string[] some = ["a", "b", " ", "\"", "\\", "é", "漢", "😀", "\n", "{", "}"];
        var length = random.Next(Count(map, "minLength", 0), Count(map, "maxLength", 6) + 1);
        return string.Concat(Enumerable.Range(0, length).Select(_ => some[random.Next(some.Length)]));
    }

    private static string[] TextsOf(string pattern) => s_patterns.First(p => p.Pattern == pattern).Texts;

    private JsonValue Integer(JsonObject map)
    {
        var least = map["minimum"]?.GetValue<int>() ?? map["exclusiveMinimum"]?.GetValue<int>() + 1;
        var most = map["maximum"]?.GetValue<int>() ?? map["exclusiveMaximum"]?.GetValue<int>() - 1;
        return JsonValue.Create(random.Next(least ?? ((most ?? 0) - 100_000), (most ?? ((least ?? 0) + 100_000)) + 1));
    }

    private JsonObject Members(JsonObject map)
    {
        var made = new JsonObject();
        var required = map["required"]!.AsArray().Select(static n => n!.ToString()).ToHashSet();
        foreach (var (name, schema) in map["properties"]!.AsObject())
        {
            if (required.Contains(name) || random.Next(2) > 0)
            {
                made[name] = Value(schema!);
            }
        }

        for (var i = random.Next(3); i > 0 && map["additionalProperties"] is { } other && other.ToJsonString() != "false"; i--)
        {
            made[$"a{i}"] = other is JsonObject ? Value(other) : i;
        }

        return made;
    }

    private static int Count(JsonObject map, string keyword, int otherwise) => map[keyword]?.GetValue<int>() ?? (keyword.StartsWith("max", StringComparison.Ordinal) && map["min" + keyword[3..]]?.GetValue<int>() is { } least ? least + otherwise : otherwise);
}
