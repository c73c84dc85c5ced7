namespace OpenWeights.Tokenizers;

/// <summary>A step of decoding. State of one decoding is held in the stage that it creates.</summary>
internal abstract class TokenDecoder
{
    /// <summary>Creates a stage that passes its output to the next one.</summary>
    public abstract DecodeStage Begin(DecodeStage next);

    /// <summary>What the step makes of a token that is neither the first nor the last of a text.</summary>
    public virtual string InText(string token) => token;

    /// <summary>The bytes that the step makes of a token; null if it makes text of it.</summary>
    public virtual byte[]? BytesOf(string token) => null;
}

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

/// <summary>Joins tokens with spaces, as the reference does without a decoder.</summary>
internal sealed class JoinWithSpaces : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) =>
        new MapDecoder((token, index) => index == 0 ? token : " " + token).Begin(next);

    public override string InText(string token) => " " + token;
}

/// <summary>A decoder that rewrites every token by itself, given its place among the tokens; null drops it.</summary>
internal sealed class MapDecoder(Func<string, int, string?> map) : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(map, next);

    public override string InText(string token) => map(token, 1) ?? "";

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

/// <summary>"BPEDecoder": the suffix that ends a word becomes a space, but not in the last token.</summary>
internal sealed class SuffixDecoder(string suffix) : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(suffix, next);

    public override string InText(string token) => suffix.Length == 0 ? token : token.Replace(suffix, " ", StringComparison.Ordinal);

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

/// <summary>"WordPiece", and the tidying up that it shares with "CTC".</summary>
internal static class WordPieceDecoders
{
    /// <summary>A space before every token but the first and those that go on a word, which lose their prefix.</summary>
    public static TokenDecoder WordPiece(string prefix, bool cleanup) => new MapDecoder((token, index) =>
    {
        var text = index == 0 ? token
            : token.StartsWith(prefix, StringComparison.Ordinal) ? token[prefix.Length..]
            : " " + token;
        return cleanup ? Tidy(text) : text;
    });

    /// <summary>Takes out spaces before punctuation and English contractions.</summary>
    public static string Tidy(string text) => text
        .Replace(" .", ".", StringComparison.Ordinal)
        .Replace(" ?", "?", StringComparison.Ordinal)
        .Replace(" !", "!", StringComparison.Ordinal)
        .Replace(" ,", ",", StringComparison.Ordinal)
        .Replace(" ' ", "'", StringComparison.Ordinal)
        .Replace(" n't", "n't", StringComparison.Ordinal)
        .Replace(" 'm", "'m", StringComparison.Ordinal)
        .Replace(" do not", " don't", StringComparison.Ordinal)
        .Replace(" 's", "'s", StringComparison.Ordinal)
        .Replace(" 've", "'ve", StringComparison.Ordinal)
        .Replace(" 're", "'re", StringComparison.Ordinal);
}
