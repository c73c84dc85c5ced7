using System.Text.Json.Nodes;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>The reference's models have no tokenizer, and llama.cpp wants one: this one has the 256 bytes for tokens.</summary>
internal static class ByteTokenizer
{
    /// <summary>Copies a model into a folder of its own, with the tokenizer.</summary>
    internal static string Model(TemporaryFolder work, string golden)
    {
        var source = SharedFiles.Require("goldens", "reference", golden);
        var folder = work.Folder(golden);
        foreach (var name in new[] { "config.json", "model.safetensors" })
        {
            File.WriteAllBytes(Path.Combine(folder, name), File.ReadAllBytes(Path.Combine(source, name)));
        }

        Write(folder);
        return folder;
    }

    /// <summary>Writes the tokenizer into a folder.</summary>
    internal static void Write(string folder)
    {
        var vocabulary = new JsonObject();
        foreach (var character in Characters())
        {
            vocabulary[character.ToString()] = vocabulary.Count;
        }

        var bytes = new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true, ["use_regex"] = true };
        var tokenizer = new JsonObject
        {
            ["version"] = "1.0",
            ["added_tokens"] = new JsonArray(),
            ["normalizer"] = null,
            ["pre_tokenizer"] = bytes,
            ["post_processor"] = null,
            ["decoder"] = bytes.DeepClone(),
            ["model"] = new JsonObject { ["type"] = "BPE", ["vocab"] = vocabulary, ["merges"] = new JsonArray() },
        };
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), tokenizer.ToJsonString());
    }

    // GPT-2's letters for bytes: printable ones for themselves, others from U+0100 on.
    private static IEnumerable<char> Characters()
    {
        bool Printable(int b) => b is (>= 33 and <= 126) or (>= 161 and <= 172) or (>= 174 and <= 255);
        return Enumerable.Range(0, 256).Where(Printable).Select(static b => (char)b)
            .Concat(Enumerable.Range(0, Enumerable.Range(0, 256).Count(b => !Printable(b))).Select(static i => (char)(256 + i)));
    }
}
