using System.Text.Json;

namespace OpenWeights.Tokenizers;

/// <summary>
/// Reads a tokenizer.json (format of huggingface/tokenizers, version 1.0). The model's vocabulary and merges, nearly all of the
/// file, are read in place; the small rest becomes <see cref="JsonSection"/>s.
/// </summary>
internal static class TokenizerJsonReader
{
    /// <summary>Reads the file.</summary>
    public static TokenizerParts Read(string file, byte[] bytes, TokenizerSettings settings)
    {
        try
        {
            return Read(file, JsonSection.TextOf(bytes, file), settings);
        }
        catch (JsonException e)
        {
            throw JsonSection.Malformed(file, e);
        }
    }

    private static TokenizerParts Read(string file, ReadOnlyMemory<byte> bytes, TokenizerSettings settings)
    {
        var sections = new Dictionary<string, JsonSection>();
        ModelSections? model = null;
        var cursor = new JsonCursor(bytes.Span);
        cursor.Take('{');
        for (var isFirst = true; cursor.Next('}', ref isFirst);)
        {
            var key = cursor.TakeKey();
            if (key == "model" && cursor.Peek() == (byte)'{')
            {
                model = ModelSections.Read(ref cursor, file);
            }
            else
            {
                sections[key] = new JsonSection(cursor.TakeValue(), file, key);
            }
        }

        if (cursor.Peek() != 0)
        {
            throw cursor.Error("something follows the JSON object");
        }

        if (model is null)
        {
            throw new InvalidDataException($"{file}: model: is missing or no object; this is not a tokenizer.json.");
        }

        JsonSection Section(string key) => sections.TryGetValue(key, out var section) ? section : new JsonSection(default, file, key);
        if (Section("version").TextOrNull() is { } version && version != "1.0")
        {
            throw Section("version").Error($"version {version} is not supported; 1.0 is.");
        }

        var tokenModel = ModelReader.Read(model, bytes.Span);
        return new TokenizerParts
        {
            Model = tokenModel,
            Normalizers = new NormalizerChain(NormalizerReader.Read(Section("normalizer"))),
            PreTokenizers = PreTokenizerReader.Read(Section("pre_tokenizer")),
            PostProcessor = PostProcessorReader.Read(Section("post_processor")),
            Decoders = DecoderReader.Read(Section("decoder")),
            AddedTokens = AddedTokenReader.Read(Section("added_tokens"), tokenModel.Vocabulary, settings),
        };
    }
}
