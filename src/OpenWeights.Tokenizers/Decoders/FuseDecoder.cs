namespace OpenWeights.Tokenizers;

/// <summary>"Fuse": all tokens become one.</summary>
internal sealed class FuseDecoder : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(next);

    private sealed class Stage(DecodeStage next) : DecodeStage
    {
        public override void Push(string text, bool endsToken)
        {
            if (text.Length > 0)
            {
                next.Push(text, endsToken: false);
            }
        }

        public override void Finish()
        {
            next.Push("", endsToken: true);
            next.Finish();
        }
    }
}
