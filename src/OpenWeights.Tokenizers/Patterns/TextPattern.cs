namespace OpenWeights.Tokenizers;

/// <summary>Something to look for in a text.</summary>
internal abstract class TextPattern
{
    /// <summary>
    /// Adds the matches and what lies between them, in order, covering the text. A match may be empty where the pattern can match
    /// nothing.
    /// </summary>
    public abstract void FindMatches(ReadOnlySpan<char> text, List<PatternMatch> matches);
}
