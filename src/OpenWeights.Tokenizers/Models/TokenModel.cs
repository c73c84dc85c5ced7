namespace OpenWeights.Tokenizers;

/// <summary>
/// The part of a tokenizer that turns a piece of text into tokens. Immutable; mutable state is in <see cref="EncodeState"/>.
/// </summary>
internal abstract class TokenModel
{
    /// <summary>The model's own tokens (without added ones).</summary>
    public abstract Vocabulary Vocabulary { get; }

    /// <summary>
    /// Appends the tokens of a piece to the state's output. Ranges count UTF-16 units from the piece's start.
    /// </summary>
    public abstract void Tokenize(ReadOnlySpan<char> piece, EncodeState state);

    /// <summary>Whether <see cref="TokenizeByteLevel"/> serves this model.</summary>
    public virtual bool TakesByteLevelWords => false;

    /// <summary>
    /// What <see cref="Tokenize"/> makes of the piece after its UTF-8 bytes were written as the characters of the byte-level
    /// alphabet, without writing them; ranges count units of <paramref name="piece"/> itself.
    /// </summary>
    public virtual void TokenizeByteLevel(ReadOnlySpan<char> piece, EncodeState state) => throw new NotSupportedException();
}

/// <summary>"WordLevel": a word is a token or unknown.</summary>
internal sealed class WordLevelModel(Vocabulary vocabulary, int unknownId) : TokenModel
{
    public override Vocabulary Vocabulary => vocabulary;

    public override void Tokenize(ReadOnlySpan<char> piece, EncodeState state) =>
        state.Output.Add(vocabulary.Find(piece) is >= 0 and var id ? id : unknownId, 0, piece.Length);
}
