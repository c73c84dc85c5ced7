using System.Text.Json;
using System.Text.Json.Nodes;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>The three small tokenizers of tests/fixtures/tokenizers/components.json, and changed copies of them.</summary>
internal static class SmallTokenizers
{
    private static readonly Lazy<JsonNode> s_file = new(() => JsonNode.Parse(File.ReadAllText(Path.Combine(
        SharedFiles.Root, "tests", "fixtures", "tokenizers", "components.json")))!);

    /// <summary>The cases of the file.</summary>
    public static IEnumerable<JsonObject> Cases => s_file.Value["cases"]!.AsArray().Select(c => c!.AsObject());

    /// <summary>The JSON of a base: "bytes" (byte-level BPE), "pieces" (SentencePiece-like BPE with byte fallback) or "unigram".</summary>
    public static JsonObject Json(string name) => s_file.Value["bases"]![name]!.DeepClone().AsObject();

    /// <summary>The JSON of a base with other values under some keys; "model.x" is the model's x.</summary>
    public static JsonObject Changed(string name, JsonObject change)
    {
        var json = Json(name);
        foreach (var (key, value) in change)
        {
            if (key.StartsWith("model.", StringComparison.Ordinal))
            {
                json["model"]![key["model.".Length..]] = value?.DeepClone();
            }
            else
            {
                json[key] = value?.DeepClone();
            }
        }

        return json;
    }

    /// <summary>Loads a tokenizer.json.</summary>
    public static Tokenizer Load(JsonNode json)
    {
        using var folder = new TestFolder();
        return Tokenizer.Load(folder.Write("tokenizer.json", json.ToJsonString(new JsonSerializerOptions { WriteIndented = true })));
    }

    /// <summary>Loads a base.</summary>
    public static Tokenizer Load(string name) => Load(Json(name));
}
