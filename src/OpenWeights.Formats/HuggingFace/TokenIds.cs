using System.Text.Json.Nodes;

namespace OpenWeights.Formats.HuggingFace;

/// <summary>Token ids as the configs hold them: one number, an array of numbers, or null.</summary>
internal static class TokenIds
{
    /// <summary>The ids under a key; null where the key is absent or null.</summary>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public static IReadOnlyList<int>? Read(JsonObject? config, string key, string path) => config?[key] switch
    {
        null => null,
        JsonArray array => [.. array.Select(item => One(item, key, path)).Distinct()],
        var single => [One(single, key, path)],
    };

    private static int One(JsonNode? node, string key, string path) =>
        node is JsonValue value && value.TryGetValue<int>(out var id) && id >= 0
            ? id
            : throw new InvalidDataException($"{path}: {key} is {node?.ToJsonString() ?? "null"}, which is not a token id "
                + "(a whole number from 0 on, or an array of them); correct it");
}
