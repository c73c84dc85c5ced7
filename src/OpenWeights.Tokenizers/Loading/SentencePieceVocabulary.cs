namespace OpenWeights.Tokenizers;

/// <summary>The pieces of a SentencePiece file as they stand in it, for programs that write another tokenizer format.</summary>
public sealed class SentencePieceVocabulary
{
    private SentencePieceVocabulary(SentencePieceModel model)
    {
        IsBpe = model.ModelType == 2;
        AddsDummyPrefix = model.AddsDummyPrefix;
        RemovesExtraWhitespaces = model.RemovesExtraWhitespaces;
        Pieces = [.. model.Pieces.Select(static piece => (piece.Text, piece.Score, (int)piece.Type))];
    }

    /// <summary>Whether it is a BPE model; otherwise it is a unigram model.</summary>
    public bool IsBpe { get; }

    /// <summary>Whether a space is put before a text.</summary>
    public bool AddsDummyPrefix { get; }

    /// <summary>Whether runs of spaces become one.</summary>
    public bool RemovesExtraWhitespaces { get; }

    /// <summary>The pieces; a piece's id is its index. Types are SentencePiece's: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.</summary>
    public IReadOnlyList<(string Text, float Score, int Type)> Pieces { get; }

    /// <summary>Reads a file.</summary>
    /// <param name="path">The tokenizer.model.</param>
    /// <exception cref="InvalidDataException">It is no SentencePiece model.</exception>
    public static SentencePieceVocabulary Read(string path)
    {
        try
        {
            return new SentencePieceVocabulary(SentencePieceModel.Parse(File.ReadAllBytes(path)));
        }
        catch (FormatException e)
        {
            throw new InvalidDataException($"{path}: not a SentencePiece model: {e.Message}.", e);
        }
    }
}
