namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Finds how much of a turn's beginning is the header that a generation prompt writes too.</summary>
internal static class HeaderMatcher
{
    /// <summary>
    /// The length of the header at the beginning of a turn; -1 if the generation prompt is not there. White space may differ: templates
    /// that are written on indented lines write other blanks around the prompt than around a turn.
    /// </summary>
    /// <param name="lead">The turn's text before the first character of the message.</param>
    /// <param name="prompt">The generation prompt.</param>
    public static int Match(string lead, string prompt)
    {
        if (lead.StartsWith(prompt, StringComparison.Ordinal))
        {
            return prompt.Length;
        }

        var (at, matched) = Loose(lead, prompt);
        if (matched)
        {
            return at;
        }

        var core = prompt.Trim();
        var found = lead.IndexOf(core, StringComparison.Ordinal);
        return found < 0 ? -1 : char.IsWhiteSpace(prompt[^1]) ? SkipSpace(lead, found + core.Length) : found + core.Length;
    }

    private static (int At, bool Matched) Loose(string lead, string prompt)
    {
        var (i, j) = (SkipSpace(lead, 0), SkipSpace(prompt, 0));
        var begin = i;
        while (i < lead.Length && j < prompt.Length)
        {
            if (char.IsWhiteSpace(lead[i]) && char.IsWhiteSpace(prompt[j]))
            {
                (i, j) = (SkipSpace(lead, i), SkipSpace(prompt, j));
            }
            else if (lead[i] == prompt[j])
            {
                (i, j) = (i + 1, j + 1);
            }
            else
            {
                break;
            }
        }

        if (SkipSpace(prompt, j) == prompt.Length || i == lead.Length)
        {
            return (i, i > begin);
        }

        // They part inside: the header ends with the last tag, word or line that both have.
        i = TokenBoundary.Before(lead, i, begin);
        return (i, i > begin);
    }

    private static int SkipSpace(string text, int at)
    {
        while (at < text.Length && char.IsWhiteSpace(text[at]))
        {
            at++;
        }

        return at;
    }
}

/// <summary>Finds where a text can be cut without cutting a tag or a word.</summary>
internal static class TokenBoundary
{
    /// <summary>
    /// The last place at or before a position that lies after white space or after a closed tag, so that what two texts have in common
    /// ends with a whole piece: <c>&lt;think&gt;</c> and <c>&lt;/think&gt;</c> have nothing in common, nor have <c>&lt;|a|&gt;</c> and
    /// <c>&lt;|b|&gt;</c>.
    /// </summary>
    /// <param name="text">The text.</param>
    /// <param name="at">Where it is to be cut.</param>
    /// <param name="floor">A place where it can be cut in any case; not after the position.</param>
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
