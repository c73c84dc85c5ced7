using System.Text.Json;
using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// llama.cpp's names for pre-tokenizers, by the patterns in a tokenizer.json
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp"/>). A wrong name would produce wrong ids, so unknown
/// patterns are refused.
/// </summary>
internal static class PreTokenizers
{
    internal static string NameOf(JsonElement root, string path)
    {
        var ignoresMerges = root.GetProperty("model").TryGetProperty("ignore_merges", out var flag) && flag.ValueKind == JsonValueKind.True;
        var steps = Steps(root.GetProperty("pre_tokenizer")).ToArray();
        return steps switch
        {
            ["bytes+pattern"] => "gpt-2",
            ["digits", "bytes+pattern"] => "smollm",
            [SplitPatterns.Llama3, "bytes"] => ignoresMerges ? "llama-bpe" : "dbrx",
            [SplitPatterns.Qwen2, "bytes"] when !ignoresMerges => "qwen2",
            [SplitPatterns.Qwen35, "bytes"] when !ignoresMerges => "qwen35",
            [SplitPatterns.Tekken, "bytes"] when ignoresMerges => "tekken",
            _ => throw new InvalidDataException($"{path}: pre_tokenizer: llama.cpp's name for this pre-tokenizer is unknown ({string.Join(", then ", steps)}); export a merged folder and convert it with llama.cpp's own converter."),
        };
    }

    private static IEnumerable<string> Steps(JsonElement element)
    {
        if (element.ValueKind != JsonValueKind.Object)
        {
            return [];
        }

        bool Flag(string key) => element.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.True;
        var type = element.GetProperty("type").GetString();
        return type switch
        {
            "Sequence" => element.GetProperty("pretokenizers").EnumerateArray().SelectMany(Steps),
            "ByteLevel" when !Flag("add_prefix_space") => [!element.TryGetProperty("use_regex", out _) || Flag("use_regex") ? "bytes+pattern" : "bytes"],
            "Digits" when Flag("individual_digits") => ["digits"],
            "Split" when element.GetProperty("pattern").TryGetProperty("Regex", out var pattern) && Keeps(element) => [pattern.GetString()!],
            _ => [element.GetRawText()],
        };
    }

    // Equivalent behaviors for these patterns: matches isolated, or text between matches removed, of which there is none.
    private static bool Keeps(JsonElement split) => (split.GetProperty("behavior").GetString(), split.GetProperty("invert").GetBoolean()) is ("Isolated", false) or ("Removed", true);
}
