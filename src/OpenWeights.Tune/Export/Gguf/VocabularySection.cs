using System.Text.Json;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Writes a model's tokenizer and chat template as GGUF keys.</summary>
internal static class VocabularySection
{
    internal const int Normal = 1;
    internal const int Unknown = 2;
    internal const int Control = 3;
    internal const int UserDefined = 4;
    internal const int Unused = 5;
    internal const int Byte = 6;

    /// <summary>Writes the keys.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="vocabularySize">Number of rows of the embedding, to which the vocabulary is padded.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="chatTemplate">A chat template that replaces the model's; null for the model's.</param>
    /// <exception cref="InvalidDataException">llama.cpp does not support the tokenizer.</exception>
    internal static void Write(ModelFolder folder, int vocabularySize, GgufMetadata metadata, string? chatTemplate)
    {
        if (folder.TokenizerFiles.Count == 0)
        {
            // The model has no tokenizer.
            metadata.Add("tokenizer.ggml.model", "no_vocab");
            return;
        }

        var tokenizer = Tokenizer.Load(folder.FolderPath);
        tokenizer = chatTemplate is null ? tokenizer : tokenizer.WithChatTemplate(chatTemplate);
        if (tokenizer.VocabularySize > vocabularySize)
        {
            throw new InvalidDataException($"{folder.FolderPath}: the tokenizer has {tokenizer.VocabularySize} tokens but the embedding {vocabularySize} rows; llama.cpp needs a row for each token.");
        }

        var vocabulary = Read(folder, tokenizer);
        metadata.Add("tokenizer.ggml.model", vocabulary.Model);
        metadata.Add("tokenizer.ggml.pre", vocabulary.Pre);
        Fill(vocabulary, vocabularySize);
        RefuseTwins(vocabulary, folder);
        metadata.Add("tokenizer.ggml.tokens", vocabulary.Tokens.ToArray());
        if (vocabulary.Scores.Count > 0)
        {
            metadata.Add("tokenizer.ggml.scores", vocabulary.Scores.ToArray());
        }

        metadata.Add("tokenizer.ggml.token_type", vocabulary.Types.ToArray());
        if (vocabulary.Merges is { } merges)
        {
            metadata.Add("tokenizer.ggml.merges", merges);
        }

        WriteSpecials(folder, tokenizer, vocabulary, metadata);
        WriteTemplates(tokenizer, metadata);
    }

    // As in gguf-py's add_chat_template: further templates are stored by name, with a list of the names.
    private static void WriteTemplates(Tokenizer tokenizer, GgufMetadata metadata)
    {
        const string key = "tokenizer.chat_template";
        static string Plain(string name) => string.Concat(name.Select(static c => char.IsAsciiLetterOrDigit(c) ? c : '_'));
        var others = tokenizer.ChatTemplates.Where(static t => t.Key != "default").Select(static t => (Name: Plain(t.Key), Text: t.Value)).DistinctBy(static t => t.Name).OrderBy(static t => t.Name, StringComparer.Ordinal).ToList();
        foreach (var (name, text) in others)
        {
            metadata.Add($"{key}.{name}", text);
        }

        if (others.Count > 0)
        {
            metadata.Add("tokenizer.chat_templates", others.Select(static t => t.Name).ToArray());
        }

        if (tokenizer.ChatTemplateText is { } template)
        {
            metadata.Add(key, template);
        }
    }

    private static GgufVocabulary Read(ModelFolder folder, Tokenizer tokenizer)
    {
        var sentencePiece = Path.Combine(folder.FolderPath, "tokenizer.model");
        var json = Path.Combine(folder.FolderPath, "tokenizer.json");
        if (!File.Exists(json))
        {
            var words = Path.Combine(folder.FolderPath, "vocab.json");
            return File.Exists(sentencePiece) ? SentencePieceSource.Read(sentencePiece, tokenizer)
                : File.Exists(words) ? VocabAndMergesSource.Read(folder, words, tokenizer)
                : throw new InvalidDataException($"{folder.FolderPath}: the tokenizer has neither tokenizer.json nor tokenizer.model nor vocab.json with merges.txt; save it with a current version of transformers first.");
        }

        using var document = JsonDocument.Parse(File.ReadAllBytes(json));
        return TokenizerJsonSource.Read(document.RootElement, json, File.Exists(sentencePiece) ? sentencePiece : null, tokenizer);
    }

    private static void Fill(GgufVocabulary vocabulary, int size)
    {
        for (var i = vocabulary.Tokens.Count; i < size; i++)
        {
            vocabulary.Add($"[PAD{i}]", 0, Unused);
        }
    }

    private static void RefuseTwins(GgufVocabulary vocabulary, ModelFolder folder)
    {
        var twin = vocabulary.Tokens.GroupBy(static t => t).FirstOrDefault(static g => g.Count() > 1);
        if (twin is not null)
        {
            throw new InvalidDataException($"{folder.FolderPath}: two tokens have the text '{twin.Key}', which llama.cpp does not support.");
        }
    }

    private static void WriteSpecials(ModelFolder folder, Tokenizer tokenizer, GgufVocabulary vocabulary, GgufMetadata metadata)
    {
        var ids = tokenizer.Encode("a", addSpecialTokens: true);
        var bare = tokenizer.Encode("a", addSpecialTokens: false);
        var addsBos = ids.Length > bare.Length && ids[0] == tokenizer.BosToken;
        var eos = tokenizer.EosToken ?? (folder.EosTokenIds.Count > 0 ? folder.EosTokenIds[0] : null);
        var bos = tokenizer.BosToken ?? eos;

        // Without these two keys llama.cpp uses default ids, which belong to ordinary tokens here.
        Add("bos", bos ?? 0);
        Add("eos", eos ?? bos ?? 0);
        if (EndTokens.OfTemplate(tokenizer) is { } turn && turn != eos)
        {
            Add("eot", turn);
        }

        Add("unknown", tokenizer.UnknownToken);
        Add("padding", tokenizer.PadToken);
        metadata.Add("tokenizer.ggml.add_bos_token", addsBos);
        metadata.Add("tokenizer.ggml.add_eos_token", ids.Length > bare.Length && ids[^1] == tokenizer.EosToken);
        if (vocabulary.AddsSpacePrefix is { } prefix)
        {
            metadata.Add("tokenizer.ggml.add_space_prefix", prefix);
        }

        void Add(string name, int? id)
        {
            if (id is { } known)
            {
                metadata.Add($"tokenizer.ggml.{name}_token_id", (uint)known);
            }
        }
    }
}
