using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Tokenizes texts without duplicating special tokens: a text may already begin with &lt;s&gt; or end with &lt;/s&gt;.</summary>
internal static class TextTokens
{
    /// <summary>
    /// The tokens of a text with their offsets. If the text itself begins (or ends) with the token that the tokenizer would add, the added
    /// one is omitted.
    /// </summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="text">The text.</param>
    public static IReadOnlyList<TokenSpan> EncodeOnce(this ITokenizer tokenizer, string text)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var spans = tokenizer.EncodeWithOffsets(text, addSpecialTokens: true);
        if (spans.Count < 2)
        {
            return spans;
        }

        // Added tokens have no characters of the text.
        var start = IsDouble(spans[0], spans[1]) ? 1 : 0;
        var end = spans.Count - (spans.Count - start > 1 && IsDouble(spans[^1], spans[^2]) ? 1 : 0);
        return start == 0 && end == spans.Count ? spans : [.. spans.Skip(start).Take(end - start)];
    }

    /// <summary>The tokens of a prompt: without an EOS token.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="text">The text.</param>
    public static int[] EncodePrompt(this ITokenizer tokenizer, string text)
    {
        var ids = EncodeOnce(tokenizer, text).Select(static s => s.Id).ToArray();
        return ids.Length > 0 && ids[^1] == tokenizer.EosToken ? ids[..^1] : ids;
    }

    private static bool IsDouble(TokenSpan added, TokenSpan next) => added.Id == next.Id && added.End == added.Start && next.End > next.Start;
}
