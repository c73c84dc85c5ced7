using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Reads the parts of an Oniguruma expression that stand for one character: brackets, escapes, properties.</summary>
internal sealed class OnigurumaClassParser(string text)
{
    private int _depth;

    /// <summary>The code point at a place, and the place after it.</summary>
    public static int CodePointAt(string text, ref int at)
    {
        _ = Rune.DecodeFromUtf16(text.AsSpan(at), out var rune, out var units);
        at += units;
        return rune.Value;
    }

    /// <summary>Reads a bracket expression from its opening to after its closing bracket.</summary>
    public CodePointSet ReadBracket(ref int at, bool ignoreCase)
    {
        if (++_depth > 100)
        {
            throw Error(at, "nests brackets too deeply");
        }

        at++;
        var isNegated = at < text.Length && text[at] == '^';
        at += isNegated ? 1 : 0;
        CodePointSet? intersection = null;
        var set = CodePointSet.Empty;
        for (var isFirst = true; ; isFirst = false)
        {
            if (at >= text.Length)
            {
                throw Error(at, "has a bracket without an end");
            }

            if (text[at] == ']' && !isFirst)
            {
                at++;
                break;
            }

            if (string.CompareOrdinal(text, at, "&&", 0, 2) == 0)
            {
                at += 2;
                intersection = intersection?.Intersect(set) ?? set;
                set = CodePointSet.Empty;
                continue;
            }

            set = set.Union(ReadItem(ref at, ignoreCase));
        }

        set = intersection?.Intersect(set) ?? set;
        _depth--;
        if (ignoreCase)
        {
            set = CloseCase(set, isNegated, at);
        }

        return isNegated ? set.Not() : set;
    }

    /// <summary>Reads an escape that stands for a set, such as <c>\s</c> or <c>\p{L}</c>; null, and nothing is read, where it is not one.</summary>
    /// <param name="at">Where the escape begins; set to after it.</param>
    /// <param name="isInBracket">Whether it stands in brackets, where <c>\w</c> is a little less.</param>
    public CodePointSet? TryReadSet(ref int at, bool isInBracket)
    {
        var escape = at + 1 < text.Length ? text[at + 1] : '\0';
        var name = escape switch
        {
            's' or 'S' => "whitespace",
            'd' or 'D' => "nd",
            'w' or 'W' => "word",
            'h' or 'H' => "xdigit",
            _ => null,
        };
        if (name is not null)
        {
            at += 2;
            var set = Property(name, isInBracket)!;
            return char.IsUpper(escape) ? set.Not() : set;
        }

        return escape is 'p' or 'P' ? ReadProperty(ref at, escape == 'P', isInBracket) : null;
    }

    /// <summary>Reads an escape that stands for a character.</summary>
    public int ReadEscapedCharacter(ref int at)
    {
        if (at + 1 >= text.Length)
        {
            throw Error(at, "ends in a backslash");
        }

        var escape = text[at + 1];
        at += 2;
        switch (escape)
        {
            case 't': return '\t';
            case 'n': return '\n';
            case 'r': return '\r';
            case 'f': return '\f';
            case 'v': return '\v';
            case 'a': return '\a';
            case 'e': return 0x1B;
            case 'x': return ReadHex(ref at);
            case 'u': return ReadCode(ref at, 4);
            case '0': return ReadOctal(ref at);
            case 'c' or 'C' or 'M' or 'R' or 'X' or 'k' or 'g' or (>= '1' and <= '9'):
                throw Error(at, $"has \\{escape}, which is not supported here");
            default:
                at--;
                return CodePointAt(text, ref at);
        }
    }

    private static CodePointSet? Property(string name, bool isInBracket) =>
        isInBracket && name.Equals("word", StringComparison.OrdinalIgnoreCase) ? CharacterProperties.FindPosix("word") : CharacterProperties.Find(name);

    private static FormatException Error(int at, string what) => new($"{what}, at character {at}");

    private static CodePointSet CloseCase(CodePointSet set, bool isNegated, int at)
    {
        // A set that holds ß also matches "ss" when case is ignored, unless it is negated.
        return !isNegated && set.Intersect(CaseFolding.Expanding).Ranges.Count > 0
            ? throw Error(at, "ignores case in a set with letters that may be several characters, such as ß and ss, which is not supported")
            : CaseFolding.Close(set);
    }

    private CodePointSet ReadItem(ref int at, bool ignoreCase)
    {
        if (text[at] == '[')
        {
            return TryReadPosix(ref at) ?? ReadBracket(ref at, ignoreCase);
        }

        if (text[at] == '\\' && TryReadSet(ref at, isInBracket: true) is { } set)
        {
            return StartsRange(at) ? throw Error(at, "has a range from a set") : set;
        }

        var first = ReadCharacter(ref at);
        if (!StartsRange(at))
        {
            return CodePointSet.Of(first);
        }

        at++;
        var last = text[at] == '[' ? throw Error(at, "has a range to a bracket, which is not supported") : ReadCharacter(ref at);
        return last < first ? throw Error(at, "has an empty range") : CodePointSet.Range(first, last);
    }

    /// <summary>Whether a hyphen that is not the last character of its bracket follows.</summary>
    private bool StartsRange(int at) =>
        at + 1 < text.Length && text[at] == '-' && text[at + 1] != ']' && string.CompareOrdinal(text, at + 1, "&&", 0, 2) != 0;

    private int ReadCharacter(ref int at)
    {
        if (text[at] != '\\')
        {
            return CodePointAt(text, ref at);
        }

        if (at + 1 < text.Length && text[at + 1] == 'b')
        {
            at += 2;
            return '\b';
        }

        var start = at;
        return TryReadSet(ref at, isInBracket: true) is null ? ReadEscapedCharacter(ref at) : throw Error(start, "has a range to a set, which is not supported");
    }

    private CodePointSet? TryReadPosix(ref int at)
    {
        if (string.CompareOrdinal(text, at, "[:", 0, 2) != 0)
        {
            return null;
        }

        var end = text.IndexOf(":]", at + 2, StringComparison.Ordinal);
        if (end < 0 || end - at > 22)
        {
            return null;
        }

        var name = text[(at + 2)..end];
        var isNegated = name.StartsWith('^');
        var set = CharacterProperties.FindPosix(isNegated ? name[1..] : name) ?? throw Error(at, $"has [:{name}:], which is not known");
        at = end + 2;
        return isNegated ? set.Not() : set;
    }

    private CodePointSet ReadProperty(ref int at, bool isNegated, bool isInBracket)
    {
        var end = at + 2 < text.Length && text[at + 2] == '{' ? text.IndexOf('}', at) : -1;
        if (end < 0)
        {
            throw Error(at, $"has \\{text[at + 1]} without a name in braces");
        }

        var name = text[(at + 3)..end];
        if (name.StartsWith('^'))
        {
            isNegated = !isNegated;
            name = name[1..];
        }

        var set = Property(name, isInBracket) ?? throw Error(at, $"has \\p{{{name}}}, which is not known or not supported");
        at = end + 1;
        return isNegated ? set.Not() : set;
    }

    private int ReadHex(ref int at)
    {
        if (at < text.Length && text[at] == '{')
        {
            var end = text.IndexOf('}', at);
            var digits = end < 0 ? 0 : end - at - 1;
            at++;
            var code = digits is > 0 and <= 8 ? ReadCode(ref at, digits) : throw Error(at, "has \\x{ without hexadecimal digits and }");
            at++;
            return code;
        }

        var count = 0;
        while (count < 2 && at + count < text.Length && char.IsAsciiHexDigit(text[at + count]))
        {
            count++;
        }

        var value = count == 0 ? throw Error(at, "has \\x without hexadecimal digits") : ReadCode(ref at, count);
        return value < 0x80 ? value : throw Error(at, "has \\x with a byte above 7F, which stands for no character");
    }

    private int ReadCode(ref int at, int digits)
    {
        if (at + digits > text.Length
            || !int.TryParse(text.AsSpan(at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var code)
            || !Rune.IsValid(code))
        {
            throw Error(at, "has an escape that is no code point");
        }

        at += digits;
        return code;
    }

    private int ReadOctal(ref int at)
    {
        var value = 0;
        for (var i = 0; i < 2 && at < text.Length && text[at] is >= '0' and <= '7'; i++)
        {
            value = (value * 8) + text[at++] - '0';
        }

        return value;
    }
}
