using System.Text.Json.Nodes;
using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>What owt inspect says of a GGUF file.</summary>
internal static class GgufInspection
{
    private const int LongestText = 80;

    internal static JsonObject Describe(string path)
    {
        using var file = GgufFile.Open(path);
        var description = new JsonObject
        {
            ["kind"] = "gguf",
            ["parameters"] = file.Tensors.Sum(static t => t.ElementCount),
            ["bytes"] = new FileInfo(path).Length,
        };
        foreach (var (key, value) in file.Metadata)
        {
            description[key] = value switch
            {
                Array array => $"{array.Length} values",
                string text when text.Length > LongestText => text[..LongestText] + "...",
                _ => JsonValue.Create(value.ToString()),
            };
        }

        foreach (var (key, value) in file.Metadata.Any(static m => m.Key == "tokenizer.ggml.tokens") ? InspectCommand.TokenizerFile(GgufFolder.UnpackTokenizer(path)) : [])
        {
            if (key != "kind")
            {
                description[key] = value?.DeepClone();
            }
        }

        description["tensors"] = new JsonArray(
        [
            .. file.Tensors.Select(static t => (JsonNode)new JsonObject
            {
                ["name"] = t.Name,
                ["dtype"] = t.Type.ToString(),
                ["shape"] = new JsonArray([.. t.Shape.Select(static s => (JsonNode)s)]),
            }),
        ]);
        return description;
    }
}
