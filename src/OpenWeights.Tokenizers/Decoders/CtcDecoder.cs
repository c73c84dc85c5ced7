namespace OpenWeights.Tokenizers;

/// <summary>"CTC": drops repeated tokens and the padding, and writes the word delimiter as a space.</summary>
internal sealed class CtcDecoder(string padToken, string wordDelimiter, bool cleanup) : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(padToken, wordDelimiter, cleanup, next);

    private sealed class Stage(string padToken, string wordDelimiter, bool cleanup, DecodeStage next) : WholeTokenStage(next)
    {
        private string? _last;

        protected override void Token(string token)
        {
            if (token == _last)
            {
                return;
            }

            _last = token;
            var text = padToken.Length == 0 ? token : token.Replace(padToken, "", StringComparison.Ordinal);
            if (cleanup)
            {
                text = WordPieceDecoders.Tidy(text);
                text = wordDelimiter.Length == 0 ? text : text.Replace(wordDelimiter, " ", StringComparison.Ordinal);
            }

            if (text.Length > 0)
            {
                NextStage.Push(text, endsToken: true);
            }
        }
    }
}
