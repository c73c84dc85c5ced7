using System.Text.Json.Nodes;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// Pre-tokenizers of byte-level BPE that have a name in llama.cpp
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp"/>), as represented in tokenizer.json.
/// </summary>
internal static class SplitPatterns
{
    /// <summary>Llama 3's pattern: numbers in groups of three.</summary>
    public const string Llama3 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>Qwen 2's pattern: each digit alone.</summary>
    public const string Qwen2 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>Qwen 3.5's pattern: as Qwen 2's, with marks in words.</summary>
    public const string Qwen35 = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>Mistral's Tekken pattern: words end where capitals begin.</summary>
    public const string Tekken = @"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>Whether this pre-tokenizer's model keeps a whole word that is a token without merging (ignore_merges).</summary>
    /// <param name="name">llama.cpp's name.</param>
    public static bool IgnoresMerges(string name) => name is "llama-bpe" or "llama3" or "llama-v3" or "lfm2" or "tekken";

    /// <summary>The pre_tokenizer section of a tokenizer.json for llama.cpp's name; null if unknown.</summary>
    /// <param name="name">llama.cpp's name.</param>
    public static JsonObject? PreTokenizer(string name) => name switch
    {
        "gpt-2" or "phi-2" or "olmo" => Bytes(usePattern: true),
        "smollm" => Sequence(new JsonObject { ["type"] = "Digits", ["individual_digits"] = true }, Bytes(usePattern: true)),
        "llama-bpe" or "llama3" or "llama-v3" or "lfm2" or "dbrx" or "smaug-bpe" => Sequence(Split(Llama3), Bytes(usePattern: false)),
        "qwen2" or "deepseek-r1-qwen" or "stablelm2" => Sequence(Split(Qwen2), Bytes(usePattern: false)),
        "qwen35" => Sequence(Split(Qwen35), Bytes(usePattern: false)),
        "tekken" => Sequence(Split(Tekken), Bytes(usePattern: false)),
        _ => null,
    };

    /// <summary>A byte-level step.</summary>
    /// <param name="usePattern">Whether it also splits with GPT-2's pattern.</param>
    internal static JsonObject Bytes(bool usePattern) => new() { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true, ["use_regex"] = usePattern };

    private static JsonObject Split(string pattern) => new()
    {
        ["type"] = "Split",
        ["pattern"] = new JsonObject { ["Regex"] = pattern },
        ["behavior"] = "Isolated",
        ["invert"] = false,
    };

    private static JsonObject Sequence(params JsonNode[] steps) => new() { ["type"] = "Sequence", ["pretokenizers"] = new JsonArray(steps) };
}
