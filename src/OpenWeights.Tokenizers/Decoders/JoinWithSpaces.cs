namespace OpenWeights.Tokenizers;

/// <summary>What the reference does without a decoder: the tokens with a space between.</summary>
internal sealed class JoinWithSpaces : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) =>
        new MapDecoder((token, index) => index == 0 ? token : " " + token).Begin(next);
}
