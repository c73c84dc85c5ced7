namespace OpenWeights.Tokenizers;

/// <summary>"BPEDecoder": the suffix that ends a word becomes a space, but not in the last token.</summary>
internal sealed class SuffixDecoder(string suffix) : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(suffix, next);

    private sealed class Stage(string suffix, DecodeStage next) : WholeTokenStage(next)
    {
        private string? _held;

        protected override void Token(string token)
        {
            Emit(" ");
            _held = token;
        }

        protected override void End() => Emit("");

        private void Emit(string replacement)
        {
            if (_held is not null)
            {
                NextStage.Push(suffix.Length == 0 ? _held : _held.Replace(suffix, replacement, StringComparison.Ordinal), endsToken: true);
            }
        }
    }
}
