namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Finds where a text can be cut without cutting a tag or a word.</summary>
internal static class TokenBoundary
{
    /// <summary>
    /// The last place at or before a position that lies behind white space or behind a closed tag, so that what two texts have in common
    /// ends with a whole piece: <c>&lt;think&gt;</c> and <c>&lt;/think&gt;</c> have nothing in common, nor have <c>&lt;|a|&gt;</c> and
    /// <c>&lt;|b|&gt;</c>.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <param name="at">Where it is to be cut.</param>
    /// <param name="floor">A place where it can be cut in any case; not behind the position.</param>
    public static int Before(ReadOnlySpan<char> text, int at, int floor)
    {
        while (at > floor && !IsBehindPiece(text, at, floor))
        {
            at--;
        }

        return at;
    }

    private static bool IsBehindPiece(ReadOnlySpan<char> text, int at, int floor) => text[at - 1] switch
    {
        '>' or ']' or ':' or '}' => true,
        '|' => at - 1 > floor && text[at - 2] is not ('<' or '[' or '{' or '('),
        var last => char.IsWhiteSpace(last),
    };
}
