using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>Compares the fields and types of JSON with those of a recorded answer.</summary>
internal static class Shape
{
    /// <summary>What an answer lacks of a recorded one, or has in another type; further fields are allowed.</summary>
    internal static IEnumerable<string> Differences(JsonNode? answer, JsonNode? recorded, string path = "$")
    {
        switch (recorded)
        {
            case JsonObject fields:
                if (answer is not JsonObject given)
                {
                    return [$"{path} is {Kind(answer)}, not an object"];
                }

                return fields.SelectMany(f => given.ContainsKey(f.Key) ? Differences(given[f.Key], f.Value, $"{path}.{f.Key}") : [$"{path}.{f.Key} is missing"]);
            case JsonArray { Count: > 0 } list:
                return answer is not JsonArray entries ? [$"{path} is {Kind(answer)}, not a list"]
                    : entries.SelectMany((e, i) => Differences(e, list[0], $"{path}[{i}]"));
            default:
                return Kind(answer) == Kind(recorded) ? [] : [$"{path} is {Kind(answer)}, not {Kind(recorded)}"];
        }
    }

    private static string Kind(JsonNode? value) => value?.GetValueKind() switch
    {
        null => "null",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        var kind => kind.Value.ToString(),
    };
}
