namespace OpenWeights.Tokenizers;

/// <summary>Creates a tokenizer from a vocab.json and its merges.txt: GPT-2's format, whose split pattern depends on the model.</summary>
internal static class VocabAndMergesLoader
{
    private static readonly Dictionary<string, string> s_gpt2Special = new()
    {
        ["bos_token"] = "<|endoftext|>",
        ["eos_token"] = "<|endoftext|>",
        ["unk_token"] = "<|endoftext|>",
    };

    /// <summary>Reads the files.</summary>
    public static (TokenizerParts Parts, TokenizerSettings Settings) Read(string vocabFile, string mergesFile, TokenizerSettings settings)
    {
        var kind = settings.TokenizerClass ?? settings.ModelType ?? "GPT2Tokenizer";
        var isQwen = kind is "Qwen2Tokenizer" or "qwen2" or "qwen2_moe" or "qwen3" or "qwen3_moe";
        if (!isQwen && kind is not ("GPT2Tokenizer" or "CodeGenTokenizer" or "PreTrainedTokenizer" or "gpt2" or "codegen" or "phi" or "gpt_neo" or "gptj"))
        {
            throw new InvalidDataException(
                $"{vocabFile}: the split pattern of \"{kind}\" (tokenizer_config.json or config.json beside it) is not known for vocab.json with merges.txt; "
                + "save the tokenizer as tokenizer.json.");
        }

        if (!File.Exists(mergesFile))
        {
            throw new FileNotFoundException($"{mergesFile}: is missing; vocab.json needs it.", mergesFile);
        }

        var vocabulary = ReadVocabulary(vocabFile);
        var merges = File.ReadAllBytes(mergesFile);
        var reader = new MergesReader(vocabulary, "", what => new InvalidDataException($"{mergesFile}: {what}"));
        var special = settings.SpecialTokens;
        if (!isQwen && special.Count == 0)
        {
            special = s_gpt2Special;
        }

        TilingPattern pattern = isQwen ? new Cl100kPattern(1) : new Gpt2Pattern();
        var parts = new TokenizerParts
        {
            Model = new BpeModel(vocabulary, reader.ReadLines(merges), new BpeOptions()),
            Normalizers = new NormalizerChain(isQwen ? [NormalizerReader.Nfc] : []),
            PreTokenizers =
            [
                .. settings.AddPrefixSpace == true ? [new PrefixSpacePreTokenizer()] : Array.Empty<PreTokenizer>(),
                new SplitPreTokenizer(pattern, SplitBehavior.Isolated, invert: false),
                new ByteLevelPreTokenizer(),
            ],
            Decoders = [new ByteLevelDecoder()],
            AddedTokens = AddedTokenReader.WithSettings(InVocabulary(special, vocabulary), vocabulary, settings, Path.GetFileName(vocabFile)),
        };
        return (parts, settings with { SpecialTokens = special });
    }

    private static Vocabulary ReadVocabulary(string file)
    {
        try
        {
            var cursor = new JsonCursor(JsonSection.TextOf(File.ReadAllBytes(file), file).Span);
            return VocabularyReader.ReadObject(ref cursor, what => new InvalidDataException($"{file}: {what}"));
        }
        catch (System.Text.Json.JsonException e)
        {
            throw JsonSection.Malformed(file, e);
        }
    }

    private static List<AddedToken> InVocabulary(IReadOnlyDictionary<string, string> special, Vocabulary vocabulary) =>
    [
        .. special.Values.Distinct().Where(t => vocabulary.Find(t) >= 0).Select(t => new AddedToken(t, vocabulary.Find(t)) { Special = true }),
    ];
}
