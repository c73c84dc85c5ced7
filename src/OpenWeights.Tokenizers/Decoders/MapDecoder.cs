namespace OpenWeights.Tokenizers;

/// <summary>A decoder that rewrites every token by itself, given its place among the tokens; null drops it.</summary>
internal sealed class MapDecoder(Func<string, int, string?> map) : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(map, next);

    private sealed class Stage(Func<string, int, string?> map, DecodeStage next) : WholeTokenStage(next)
    {
        private int _index;

        protected override void Token(string token)
        {
            if (map(token, _index++) is { } mapped)
            {
                NextStage.Push(mapped, endsToken: true);
            }
        }
    }
}
