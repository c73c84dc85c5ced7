namespace OpenWeights.Tokenizers;

/// <summary>Something to look for in a text.</summary>
internal abstract class TextPattern
{
    /// <summary>
    /// Adds the matches and the text between them, in order, covering the text. A match may be empty where the pattern can match
    /// nothing.
    /// </summary>
    public abstract void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches);
}

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

/// <summary>The split patterns of widely used models, which are run by hand-written scanners.</summary>
internal static class KnownPatterns
{
    /// <summary>The scanner for an expression, or null.</summary>
    public static TilingPattern? Find(string expression) => expression switch
    {
        Gpt2Pattern.Expression => new Gpt2Pattern(),
        Cl100kPattern.Llama3 => new Cl100kPattern(3),
        Cl100kPattern.Qwen2 => new Cl100kPattern(1),
        _ => null,
    };
}
