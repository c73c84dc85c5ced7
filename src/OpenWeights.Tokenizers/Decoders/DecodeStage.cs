namespace OpenWeights.Tokenizers;

/// <summary>
/// A stage of a decoding under way. The reference's decoders turn a list of tokens into a list of tokens; a stage does the same
/// piece by piece and hands on whatever no later token can change, so that decoding at once and decoding in a stream are one code.
/// </summary>
internal abstract class DecodeStage
{
    /// <summary>Takes a part of a token.</summary>
    /// <param name="text">The part.</param>
    /// <param name="endsToken">Whether the token ends with it.</param>
    public abstract void Push(string text, bool endsToken);

    /// <summary>No token follows: hands on what was held back.</summary>
    public abstract void Finish();
}
