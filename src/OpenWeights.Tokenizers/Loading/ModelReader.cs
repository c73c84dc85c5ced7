namespace OpenWeights.Tokenizers;

/// <summary>Makes the model of a tokenizer.json.</summary>
internal static class ModelReader
{
    /// <summary>Makes the model.</summary>
    /// <param name="model">The model's values.</param>
    /// <param name="json">The file's text, which the values that are not read yet are read from.</param>
    public static TokenModel Read(ModelSections model, ReadOnlySpan<byte> json)
    {
        var type = model["type"].TextOrNull() ?? GuessType(model, json);
        return type switch
        {
            "BPE" => ReadBpe(model, json),
            "Unigram" => ReadUnigram(model, json),
            "WordPiece" => ReadWordPiece(model),
            "WordLevel" => ReadWordLevel(model),
            _ => throw model.Error("type", $"the model \"{type}\" is not supported; BPE, Unigram, WordPiece and WordLevel are."),
        };
    }

    /// <summary>Old files do not say what they are; the reference takes the first kind that has the fields.</summary>
    private static string GuessType(ModelSections model, ReadOnlySpan<byte> json)
    {
        if (model.MergesStart >= 0)
        {
            return "BPE";
        }

        if (model.VocabularyStart >= 0 && new JsonCursor(json, model.VocabularyStart).Peek() == (byte)'[')
        {
            return "Unigram";
        }

        return model.Has("max_input_chars_per_word") ? "WordPiece" : "WordLevel";
    }

    private static BpeModel ReadBpe(ModelSections model, ReadOnlySpan<byte> json)
    {
        if (model["dropout"] is { IsNull: false } dropout && dropout.Number() != 0)
        {
            throw dropout.Error("BPE dropout makes encodings random; set it to null.");
        }

        var options = new BpeOptions
        {
            UnknownToken = model["unk_token"].TextOrNull(),
            ContinuingSubwordPrefix = model["continuing_subword_prefix"].TextOrNull() ?? "",
            EndOfWordSuffix = model["end_of_word_suffix"].TextOrNull() ?? "",
            FuseUnknown = model["fuse_unk"].Flag(false),
            ByteFallback = model["byte_fallback"].Flag(false),
            IgnoreMerges = model["ignore_merges"].Flag(false),
        };
        var vocabulary = VocabularyOf(model);
        var merges = model.Merges;
        if (merges is null)
        {
            var cursor = new JsonCursor(json, model.MergesStart < 0 ? json.Length : model.MergesStart);
            merges = new MergesReader(vocabulary, options.ContinuingSubwordPrefix, what => model.Error("merges", what)).Read(ref cursor);
        }

        return new BpeModel(vocabulary, merges, options);
    }

    private static Vocabulary VocabularyOf(ModelSections model) =>
        model.Vocabulary ?? throw model.Error("vocab", "must be an object of tokens and their ids.");

    private static UnigramModel ReadUnigram(ModelSections model, ReadOnlySpan<byte> json)
    {
        var cursor = new JsonCursor(json, model.VocabularyStart < 0 ? json.Length : model.VocabularyStart);
        var (vocabulary, scores) = VocabularyReader.ReadScored(ref cursor, what => model.Error("vocab", what));
        int? unknown = model["unk_id"].IsNull ? null : model["unk_id"].Count();
        if (unknown >= scores.Length)
        {
            throw model.Error("unk_id", $"{unknown} is no place in the vocabulary of {scores.Length} tokens.");
        }

        return new UnigramModel(vocabulary, scores, unknown, model["byte_fallback"].Flag(false));
    }

    private static WordPieceModel ReadWordPiece(ModelSections model)
    {
        var vocabulary = VocabularyOf(model);
        var longest = model["max_input_chars_per_word"];
        return new WordPieceModel(
            vocabulary,
            UnknownOf(model, vocabulary, "[UNK]"),
            model["continuing_subword_prefix"].TextOrNull() ?? "##",
            longest.IsNull ? 100 : longest.Count());
    }

    private static WordLevelModel ReadWordLevel(ModelSections model)
    {
        var vocabulary = VocabularyOf(model);
        return new WordLevelModel(vocabulary, UnknownOf(model, vocabulary, "<unk>"));
    }

    private static int UnknownOf(ModelSections model, Vocabulary vocabulary, string otherwise)
    {
        var token = model["unk_token"].TextOrNull() ?? otherwise;
        var id = vocabulary.Find(token);
        return id >= 0 ? id : throw model.Error("unk_token", $"\"{token}\" is not in the vocabulary.");
    }
}
