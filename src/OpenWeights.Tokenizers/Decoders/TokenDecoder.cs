namespace OpenWeights.Tokenizers;

/// <summary>A step of decoding. What it holds per decoding lies in the stage that it makes.</summary>
internal abstract class TokenDecoder
{
    /// <summary>Makes a stage that hands what it makes on to the next one.</summary>
    public abstract DecodeStage Begin(DecodeStage next);
}
