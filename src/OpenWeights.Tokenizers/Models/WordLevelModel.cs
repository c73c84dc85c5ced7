namespace OpenWeights.Tokenizers;

/// <summary>"WordLevel": a word is a token or unknown.</summary>
internal sealed class WordLevelModel(Vocabulary vocabulary, int unknownId) : TokenModel
{
    public override Vocabulary Vocabulary => vocabulary;

    public override void Tokenize(ReadOnlySpan<char> piece, EncodeState state) =>
        state.Output.Add(vocabulary.Find(piece) is >= 0 and var id ? id : unknownId, 0, piece.Length);
}
