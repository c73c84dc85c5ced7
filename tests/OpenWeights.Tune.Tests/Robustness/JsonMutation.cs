using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Changes JSON by its structure, so that most of the results are still JSON and get far into a reader.</summary>
internal static class JsonMutation
{
    private static readonly string[] s_values =
    [
        "null", "true", "false", "0", "1", "-1", "2147483647", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "16777215", "16777216", "300",
        "1e2", "1e999", "-1e999", "0.5", "-0.0", "1e-400", "\"\"", "\" \"", "\"x\"", "\"\\u0000\"", "\"../../x\"", "\"/etc/hostname\"", "\"\\ud83d\\ude00\"", "[]", "{}", "[[]]", "[null]", "[1, \"a\"]",
        "{\"a\": 1}", "\"1\"", "\"F32\"", "[0, 0]", "[9223372036854775807, 9223372036854775807]", "\"(a+)+$\"", "\"[\"",
    ];

    private static readonly string[] s_words =
    [
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud83d", "null", "true", "-", "0", "9", "1e9", "Infinity", "NaN", "18446744073709551615", "{\"a\":", "[[", " ", "\n", "\0", "\ufeff", "é", "😀",
    ];

    /// <summary>An input made of one good text.</summary>
    public static string Change(Mutation random, string good)
    {
        if (random.OneIn(3) || JsonNode.Parse(good) is not { } root)
        {
            return random.Text(good, s_words);
        }

        for (var i = 1 + random.Next(3); i > 0; i--)
        {
            root = Change(random, root);
        }

        var text = root.ToJsonString(new JsonSerializerOptions { MaxDepth = 1000 });
        return random.OneIn(10) ? random.Text(text, s_words, 2) : text;
    }

    private static JsonNode Change(Mutation random, JsonNode root)
    {
        var nodes = Inner(root).ToList();
        if (nodes.Count == 0)
        {
            return root;
        }

        var node = random.Of(nodes);
        var other = random.OneIn(4) ? random.Of(nodes).DeepClone() : JsonNode.Parse(random.Of(s_values));
        switch (node.Parent)
        {
            case JsonObject owner:
                var key = node.GetPropertyName();
                switch (random.Next(8))
                {
                    case 0:
                        _ = owner.Remove(key);
                        break;
                    case 1:
                        _ = owner.Remove(key);
                        owner[random.Of(nodes) is { Parent: JsonObject } named ? named.GetPropertyName() : "x"] = node;
                        break;
                    case 2:
                        owner[key + "x"] = other;
                        break;
                    default:
                        owner[key] = other;
                        break;
                }

                break;
            case JsonArray list:
                var at = list.IndexOf(node);
                switch (random.Next(4))
                {
                    case 0:
                        list.RemoveAt(at);
                        break;
                    case 1:
                        list.Insert(random.Next(list.Count + 1), node.DeepClone());
                        break;
                    default:
                        list[at] = other;
                        break;
                }

                break;
        }

        return root;
    }

    private static IEnumerable<JsonNode> Inner(JsonNode node) => node switch
    {
        JsonObject values => values.Where(static v => v.Value is not null).SelectMany(static v => Inner(v.Value!).Prepend(v.Value!)),
        JsonArray items => items.Where(static v => v is not null).SelectMany(static v => Inner(v!).Prepend(v!)),
        _ => [],
    };
}
