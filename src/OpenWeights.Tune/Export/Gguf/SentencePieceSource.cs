using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Converts a tokenizer.model: its pieces with scores and types.</summary>
internal static class SentencePieceSource
{
    internal static GgufVocabulary Read(string path, Tokenizer tokenizer)
    {
        var pieces = SentencePieceVocabulary.Read(path);
        if (!pieces.IsBpe || pieces.RemovesExtraWhitespaces)
        {
            throw new InvalidDataException($"{path}: llama.cpp supports only SentencePiece BPE models that keep all spaces; this model is not one.");
        }

        var vocabulary = new GgufVocabulary("llama", "default") { AddsSpacePrefix = pieces.AddsDummyPrefix };
        for (var id = 0; id < Math.Max(pieces.Pieces.Count, tokenizer.VocabularySize); id++)
        {
            if (id < pieces.Pieces.Count)
            {
                var (text, score, type) = pieces.Pieces[id];
                vocabulary.Add(text, score, tokenizer.IsSpecial(id) && type == VocabularySection.Normal ? VocabularySection.Control : type);
            }
            else
            {
                vocabulary.Add(tokenizer.IdToToken(id) ?? $"[PAD{id}]", 0, tokenizer.IdToToken(id) is null ? VocabularySection.Unused : tokenizer.IsSpecial(id) ? VocabularySection.Control : VocabularySection.UserDefined);
            }
        }

        return vocabulary;
    }

    /// <summary>The scores of a tokenizer.model, if it has the same pieces as the tokenizer.json in its folder.</summary>
    internal static float[]? Scores(string? path, IReadOnlyList<string> tokens)
    {
        if (path is null)
        {
            return null;
        }

        var pieces = SentencePieceVocabulary.Read(path);
        return pieces.IsBpe && pieces.Pieces.Count <= tokens.Count && pieces.Pieces.Select(static p => p.Text).SequenceEqual(tokens.Take(pieces.Pieces.Count))
            ? [.. pieces.Pieces.Select(static p => p.Score)]
            : null;
    }
}
