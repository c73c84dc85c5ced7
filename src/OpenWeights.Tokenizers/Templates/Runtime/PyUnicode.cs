using System.Collections.Frozen;
using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's views of characters: what is space, printable, and how case changes when one character becomes several.</summary>
internal static class PyUnicode
{
    /// <summary>Characters whose upper case is more than one (Unicode's SpecialCasing.txt), each followed by it.</summary>
    private const string LongUpper =
        "ßSS ŉʼN ǰJ\u030C ΐΙ\u0308\u0301 ΰΥ\u0308\u0301 ևԵՒ ẖH\u0331 ẗT\u0308 ẘW\u030A ẙY\u030A ẚAʾ ὐΥ\u0313 ὒΥ\u0313\u0300 ὔΥ\u0313\u0301 ὖΥ\u0313\u0342 "
        + "ᾀἈΙ ᾁἉΙ ᾂἊΙ ᾃἋΙ ᾄἌΙ ᾅἍΙ ᾆἎΙ ᾇἏΙ ᾈἈΙ ᾉἉΙ ᾊἊΙ ᾋἋΙ ᾌἌΙ ᾍἍΙ ᾎἎΙ ᾏἏΙ ᾐἨΙ ᾑἩΙ ᾒἪΙ ᾓἫΙ ᾔἬΙ ᾕἭΙ ᾖἮΙ ᾗἯΙ "
        + "ᾘἨΙ ᾙἩΙ ᾚἪΙ ᾛἫΙ ᾜἬΙ ᾝἭΙ ᾞἮΙ ᾟἯΙ ᾠὨΙ ᾡὩΙ ᾢὪΙ ᾣὫΙ ᾤὬΙ ᾥὭΙ ᾦὮΙ ᾧὯΙ ᾨὨΙ ᾩὩΙ ᾪὪΙ ᾫὫΙ ᾬὬΙ ᾭὭΙ ᾮὮΙ ᾯὯΙ "
        + "ᾲᾺΙ ᾳΑΙ ᾴΆΙ ᾶΑ\u0342 ᾷΑ\u0342Ι ᾼΑΙ ῂῊΙ ῃΗΙ ῄΉΙ ῆΗ\u0342 ῇΗ\u0342Ι ῌΗΙ ῒΙ\u0308\u0300 ῖΙ\u0342 ῗΙ\u0308\u0342 ῢΥ\u0308\u0300 "
        + "ῤΡ\u0313 ῦΥ\u0342 ῧΥ\u0308\u0342 ῲῺΙ ῳΩΙ ῴΏΙ ῶΩ\u0342 ῷΩ\u0342Ι ῼΩΙ ﬀFF ﬁFI ﬂFL ﬃFFI ﬄFFL ﬅST ﬆST ﬓՄՆ ﬔՄԵ ﬕՄԻ ﬖՎՆ ﬗՄԽ";

    /// <summary>Characters whose title case is not their upper case, each followed by it.</summary>
    private const string Title =
        "ßSs Ǆǅ ǅǅ ǆǅ Ǉǈ ǈǈ ǉǈ Ǌǋ ǋǋ ǌǋ Ǳǲ ǲǲ ǳǲ ևԵւ ﬀFf ﬁFi ﬂFl ﬃFfi ﬄFfl ﬅSt ﬆSt ﬓՄն ﬔՄե ﬕՄի ﬖՎն ﬗՄխ";

    private static readonly FrozenDictionary<char, string> UpperOf = Table(LongUpper);
    private static readonly FrozenDictionary<char, string> TitleOf = Table(Title);

    /// <summary>Whether <c>str.isspace</c> holds: what <c>strip()</c> and <c>split()</c> take for white space.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    public static bool IsPrintable(Rune rune) => rune.Value == ' ' || Rune.GetUnicodeCategory(rune) is not
        (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse
        or UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.SpaceSeparator);

    public static string Upper(string text)
    {
        if (!text.AsSpan().ContainsAnyExceptInRange('\0', '\x7f'))
        {
            return text.ToUpperInvariant();
        }

        var builder = new StringBuilder(text.Length);
        foreach (var c in text)
        {
            _ = UpperOf.TryGetValue(c, out var upper) ? builder.Append(upper) : builder.Append(c);
        }

        return builder.ToString().ToUpperInvariant();
    }

    public static string Lower(string text) => Lower(text, 0, text.Length);

    /// <summary>A part of a text in lower case.</summary>
    public static string Lower(string text, int start, int end)
    {
        var part = text[start..end];
        if (part.AsSpan().IndexOfAny('Σ', 'İ') < 0)
        {
            return part.ToLowerInvariant();
        }

        var builder = new StringBuilder(part.Length);
        for (var i = start; i < end; i++)
        {
            _ = text[i] switch
            {
                'Σ' => builder.Append(IsFinalSigma(text, i) ? 'ς' : 'σ'),
                'İ' => builder.Append("i\u0307"),
                _ => builder.Append(text[i]),
            };
        }

        return builder.ToString().ToLowerInvariant();
    }

    /// <summary>The title case of the character at the beginning of a text.</summary>
    public static string TitleFirst(string text)
    {
        if (text.Length == 0)
        {
            return text;
        }

        if (TitleOf.TryGetValue(text[0], out var title))
        {
            return title;
        }

        return Upper(text[..(char.IsSurrogatePair(text, 0) ? 2 : 1)]);
    }

    /// <summary>Lower case for comparison: what <c>str.casefold</c> does, except for a few letters of extinct use.</summary>
    public static string CaseFold(string text) =>
        Lower(Upper(text)).Replace('ς', 'σ');

    public static bool IsCased(Rune rune) =>
        Rune.IsUpper(rune) || Rune.IsLower(rune) || Rune.GetUnicodeCategory(rune) == UnicodeCategory.TitlecaseLetter;

    /// <summary>Whether the capital sigma at a position ends its word, which makes its small form a final one.</summary>
    private static bool IsFinalSigma(string text, int at)
    {
        var before = at - 1;
        while (before >= 0 && IsCaseIgnorable(text[before]))
        {
            before--;
        }

        var after = at + 1;
        while (after < text.Length && IsCaseIgnorable(text[after]))
        {
            after++;
        }

        return before >= 0 && char.IsLetter(text[before]) && (after == text.Length || !char.IsLetter(text[after]));
    }

    private static bool IsCaseIgnorable(char c) =>
        c is '\'' or '.' or ':' or '·' or '’' or '\u00AD'
        || char.GetUnicodeCategory(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.Format
            or UnicodeCategory.ModifierLetter or UnicodeCategory.ModifierSymbol;

    private static FrozenDictionary<char, string> Table(string text) =>
        text.Split(' ').ToFrozenDictionary(entry => entry[0], entry => entry[1..]);
}
