namespace OpenWeights.Tokenizers;

/// <summary>Matches a fixed text.</summary>
/// <param name="literal">The text; an empty one matches at every character, as the reference's escaped regular expression does.</param>
internal sealed class LiteralPattern(string literal) : TextPattern
{
    /// <summary>The text to look for.</summary>
    public string Literal => literal;

    public override void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        var last = 0;
        while (true)
        {
            var at = text[last..].IndexOf(literal, StringComparison.Ordinal);
            if (at < 0)
            {
                break;
            }

            if (at > 0)
            {
                matches.Add(new PatternMatch(last, last + at, false));
            }

            matches.Add(new PatternMatch(last + at, last + at + literal.Length, true));
            last += at + literal.Length;
        }

        if (last < text.Length)
        {
            matches.Add(new PatternMatch(last, text.Length, false));
        }
    }
}
