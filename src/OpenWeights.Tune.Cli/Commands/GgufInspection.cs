using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Description of a GGUF file for owt inspect.</summary>
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
            ["bytes"] = FileLinks.File(path).Length,
        };
        foreach (var (key, value) in file.Metadata)
        {
            description[key] = value switch
            {
                Array array => $"{array.Length} values",
                string text when text.Length > LongestText => text[..LongestText] + "...",
                _ => JsonValue.Create(Convert.ToString(value, CultureInfo.InvariantCulture)),
            };
        }

        if (file.Metadata.Any(static m => m.Key == "tokenizer.ggml.tokens"))
        {
            InspectCommand.Add(description, InspectCommand.TokenizerFile(GgufFolder.UnpackTokenizer(path)));
        }

        InspectCommand.AddTensors(description, file.Tensors.Select(static t => (t.Name, t.Type.ToString(), (IReadOnlyList<long>)t.Shape, t.ElementCount, t.ByteLength)));
        return description;
    }
}
