namespace OpenWeights.Tokenizers;

/// <summary>A pattern whose matches cover any text without a gap, so that a text can be walked through match by match.</summary>
internal abstract class TilingPattern : TextPattern
{
    /// <summary>Where the match that begins at <paramref name="start"/> ends; always further on.</summary>
    public abstract int End(ReadOnlySpan<char> text, int start);

    public override void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches)
    {
        for (var start = 0; start < text.Length;)
        {
            var end = End(text, start);
            matches.Add(new PatternMatch(start, end, true));
            start = end;
        }
    }
}
