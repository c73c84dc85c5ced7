using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf;

/// <summary>Turns a GGUF file's tokenizer into the file that <c>Tokenizer.Load</c> reads: tokenizer.json for byte-level BPE, tokenizer.model for SentencePiece.</summary>
internal static class GgufTokenizer
{
    private const int Normal = 1;
    private const int Control = 3;
    private const int UserDefined = 4;
    private const int Unused = 5;

    /// <summary>Writes the files; none where the file has no tokens.</summary>
    /// <exception cref="InvalidDataException">The tokenizer is of a kind that cannot be read.</exception>
    public static void Write(GgufMetadata metadata, string folder)
    {
        var model = metadata.Text("tokenizer.ggml.model");
        if (model is null or "no_vocab" or "none")
        {
            return;
        }

        var tokens = metadata.List<string>("tokenizer.ggml.tokens") ?? throw metadata.Error("tokenizer.ggml.tokens", "this key is missing.");
        var types = metadata.List<int>("tokenizer.ggml.token_type") ?? [.. Enumerable.Repeat(Normal, tokens.Count)];
        if (types.Count != tokens.Count)
        {
            throw metadata.Error("tokenizer.ggml.token_type", $"there are {types.Count} types for {tokens.Count} tokens.");
        }

        switch (model)
        {
            case "gpt2":
                AtomicFile.WriteText(Path.Combine(folder, "tokenizer.json"), ByteLevel(metadata, tokens, types).ToJsonString());
                break;
            case "llama":
                AtomicFile.WriteBytes(Path.Combine(folder, "tokenizer.model"), SentencePieceFile.Make(metadata, tokens, types));
                break;
            default:
                throw metadata.Error("tokenizer.ggml.model", $"a tokenizer of kind '{model}' cannot be read; gpt2 and llama can.");
        }

        AtomicFile.WriteText(Path.Combine(folder, "tokenizer_config.json"), PythonJson.Serialize(Settings(metadata, tokens, model), indent: 2, sortKeys: false) + "\n");
    }

    /// <summary>The id of a special token; null for none, which some programs write as the largest number.</summary>
    internal static int? Id(GgufMetadata metadata, string name) =>
        metadata.Number($"tokenizer.ggml.{name}_token_id") is >= 0 and < int.MaxValue and var id ? (int)id : null;

    private static JsonObject Settings(GgufMetadata metadata, IReadOnlyList<string> tokens, string model)
    {
        JsonNode? Token(string name) => Id(metadata, name) is { } id && id < tokens.Count ? tokens[id] : null;
        var settings = new JsonObject
        {
            ["add_bos_token"] = metadata.Flag("tokenizer.ggml.add_bos_token") ?? (model == "llama"),
            ["add_eos_token"] = metadata.Flag("tokenizer.ggml.add_eos_token") ?? false,
            ["bos_token"] = Token("bos"),
            ["eos_token"] = Token("eos"),
            ["pad_token"] = Token("padding"),
            ["tokenizer_class"] = model == "llama" ? "LlamaTokenizer" : "PreTrainedTokenizerFast",
            ["unk_token"] = Token("unknown"),
        };
        if (model == "llama")
        {
            settings["add_prefix_space"] = metadata.Flag("tokenizer.ggml.add_space_prefix") ?? true;
            settings["legacy"] = true;
        }

        if (Templates(metadata) is { } templates)
        {
            settings["chat_template"] = templates;
        }

        return settings;
    }

    // One text, or where there are others beside it a list by name.
    private static JsonNode? Templates(GgufMetadata metadata)
    {
        const string key = "tokenizer.chat_template";
        var usual = metadata.Text(key);
        var named = (metadata.List<string>("tokenizer.chat_templates") ?? []).Select(name => (Name: name, Text: metadata.Text($"{key}.{name}"))).Where(static t => t.Text is not null).ToList();
        return named.Count == 0 ? usual : new JsonArray(
        [
            .. named.Prepend((Name: "default", Text: usual)).Where(static t => t.Text is not null).Select(static t => (JsonNode)new JsonObject { ["name"] = t.Name, ["template"] = t.Text }),
        ]);
    }

    private static JsonObject ByteLevel(GgufMetadata metadata, IReadOnlyList<string> tokens, IReadOnlyList<int> types)
    {
        var pre = metadata.Text("tokenizer.ggml.pre") ?? "default";
        var split = SplitPatterns.PreTokenizer(pre) ?? throw metadata.Error("tokenizer.ggml.pre", $"the pre-tokenizer '{pre}' is not supported.");
        var vocabulary = new JsonObject();
        var added = new JsonArray();
        for (var id = 0; id < tokens.Count; id++)
        {
            if (types[id] is Control or UserDefined)
            {
                added.Add((JsonNode)new JsonObject
                {
                    ["id"] = id,
                    ["content"] = tokens[id],
                    ["single_word"] = false,
                    ["lstrip"] = false,
                    ["rstrip"] = false,
                    ["normalized"] = false,
                    ["special"] = types[id] == Control,
                });
            }

            if (types[id] != Unused)
            {
                vocabulary[tokens[id]] = id;
            }
        }

        return new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = added,
            ["normalizer"] = null,
            ["pre_tokenizer"] = split,
            ["post_processor"] = Around(metadata, tokens),
            ["decoder"] = SplitPatterns.Bytes(usePattern: true),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = null,
                ["end_of_word_suffix"] = null,
                ["fuse_unk"] = false,
                ["byte_fallback"] = false,
                ["ignore_merges"] = SplitPatterns.IgnoresMerges(pre),
                ["vocab"] = vocabulary,
                ["merges"] = new JsonArray([.. (metadata.List<string>("tokenizer.ggml.merges") ?? throw metadata.Error("tokenizer.ggml.merges", "this key is missing.")).Select(static m => (JsonNode)m)]),
            },
        };
    }

    /// <summary>The post-processor: tokens added before and after a text.</summary>
    private static JsonObject Around(GgufMetadata metadata, IReadOnlyList<string> tokens)
    {
        int? Added(string name) => metadata.Flag($"tokenizer.ggml.add_{name}_token") == true && Id(metadata, name) is { } id && id < tokens.Count ? id : null;
        var (bos, eos) = (Added("bos"), Added("eos"));
        if (bos is null && eos is null)
        {
            return SplitPatterns.Bytes(usePattern: true);
        }

        var single = new JsonArray();
        var specials = new JsonObject();
        void Add(int? id)
        {
            if (id is { } known)
            {
                single.Add((JsonNode)new JsonObject { ["SpecialToken"] = new JsonObject { ["id"] = tokens[known], ["type_id"] = 0 } });
                specials[tokens[known]] = new JsonObject { ["id"] = tokens[known], ["ids"] = new JsonArray(known), ["tokens"] = new JsonArray(tokens[known]) };
            }
        }

        Add(bos);
        single.Add((JsonNode)new JsonObject { ["Sequence"] = new JsonObject { ["id"] = "A", ["type_id"] = 0 } });
        Add(eos);
        var pair = single.DeepClone().AsArray();
        pair.Add((JsonNode)new JsonObject { ["Sequence"] = new JsonObject { ["id"] = "B", ["type_id"] = 1 } });
        return new JsonObject { ["type"] = "TemplateProcessing", ["single"] = single, ["pair"] = pair, ["special_tokens"] = specials };
    }
}
