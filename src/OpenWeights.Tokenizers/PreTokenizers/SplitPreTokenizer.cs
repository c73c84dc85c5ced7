namespace OpenWeights.Tokenizers;

/// <summary>"Split" and all its special cases: cuts at the matches of a pattern.</summary>
/// <param name="pattern">The pattern of the delimiters.</param>
/// <param name="behavior">How delimiters are treated.</param>
/// <param name="invert">Whether the text between matches is the delimiter, instead of the matches.</param>
internal sealed class SplitPreTokenizer(TextPattern pattern, SplitBehavior behavior, bool invert) : PreTokenizer
{
    /// <summary>
    /// A scanner that yields exactly this step's pieces, where the pattern tiles any text and no piece is changed or dropped;
    /// else null.
    /// </summary>
    public TilingPattern? Tiling =>
        pattern is TilingPattern tiling && (behavior == SplitBehavior.Isolated || (behavior == SplitBehavior.Removed && invert)) ? tiling : null;

    public override void Apply(PreTokenizedText text)
    {
        foreach (var piece in text.Pieces)
        {
            text.Matches.Clear();
            pattern.FindMatches(text.Text.Chars.Slice(piece.Start, piece.Length), text.Matches);
            Cut(text, piece.Start);
        }

        text.EndCut();
    }

    /// <summary>Adds the pieces that the matches of one piece make (<c>NormalizedString::split</c> of the reference).</summary>
    private void Cut(PreTokenizedText text, int offset)
    {
        var matches = text.Matches;
        switch (behavior)
        {
            case SplitBehavior.Removed:
                foreach (var match in matches)
                {
                    if (match.IsMatch == invert)
                    {
                        text.Add(offset + match.Start, match.End - match.Start);
                    }
                }

                break;
            case SplitBehavior.Isolated:
                foreach (var match in matches)
                {
                    text.Add(offset + match.Start, match.End - match.Start);
                }

                break;
            case SplitBehavior.MergedWithNext:
                CutBackward(text, offset);
                break;
            default:
                CutForward(text, offset);
                break;
        }
    }

    private void CutForward(PreTokenizedText text, int offset)
    {
        var matches = text.Matches;
        var wasMatch = false;
        var start = 0;
        for (var i = 0; i < matches.Count; i++)
        {
            var isMatch = matches[i].IsMatch != invert;
            var extends = behavior == SplitBehavior.Contiguous ? isMatch == wasMatch : isMatch && !wasMatch;
            if (i > 0 && !extends)
            {
                text.Add(offset + start, matches[i - 1].End - start);
                start = matches[i].Start;
            }

            wasMatch = isMatch;
        }

        if (matches.Count > 0)
        {
            text.Add(offset + start, matches[^1].End - start);
        }
    }

    private void CutBackward(PreTokenizedText text, int offset)
    {
        // A delimiter joins what follows it unless that is a delimiter too; pieces are made from left to right.
        var matches = text.Matches;
        for (var i = 0; i < matches.Count; i++)
        {
            var isDelimiter = matches[i].IsMatch != invert;
            var joinsNext = isDelimiter && i + 1 < matches.Count && matches[i + 1].IsMatch == invert;
            var end = joinsNext ? matches[i + 1].End : matches[i].End;
            text.Add(offset + matches[i].Start, end - matches[i].Start);
            i += joinsNext ? 1 : 0;
        }
    }
}

/// <summary>How delimiters of a split are treated (huggingface/tokenizers, <c>SplitDelimiterBehavior</c>).</summary>
internal enum SplitBehavior
{
    /// <summary>Delimiters vanish.</summary>
    Removed,

    /// <summary>Each delimiter is a piece.</summary>
    Isolated,

    /// <summary>A delimiter ends the piece before it.</summary>
    MergedWithPrevious,

    /// <summary>A delimiter begins the piece after it.</summary>
    MergedWithNext,

    /// <summary>A run of delimiters is a piece.</summary>
    Contiguous,
}
