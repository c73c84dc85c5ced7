using System.Globalization;

using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>Reads one token inside a tag: a number, a name, a string or an operator.</summary>
internal static class TagLexer
{
    private static readonly string[] LongOperators = ["//", "**", "==", "!=", ">=", "<="];

    /// <returns>The token and the position after it.</returns>
    /// <exception cref="TemplateFailure">No token begins here.</exception>
    public static (Token Token, int End) Next(string source, int start, int line)
    {
        var c = source[start];
        if (IsDigit(c))
        {
            return Number(source, start, line);
        }

        if (IsNamePart(c))
        {
            return Name(source, start, line);
        }

        if (c is '\'' or '"')
        {
            return String(source, start, line);
        }

        foreach (var symbol in LongOperators)
        {
            if (string.CompareOrdinal(source, start, symbol, 0, symbol.Length) == 0)
            {
                return (new Token(TokenKind.Operator, symbol, line), start + symbol.Length);
            }
        }

        if ("+-/*%~[](){}><=.:|,;".Contains(c))
        {
            return (new Token(TokenKind.Operator, c.ToString(), line), start + 1);
        }

        throw TemplateFailure.Syntax($"unexpected char {PyRepr.Quote(c.ToString())} at {start}", line);
    }

    private static bool IsDigit(char c) => char.IsAsciiDigit(c);

    private static bool IsNamePart(char c) =>
        char.IsLetterOrDigit(c) || c == '_' || char.GetUnicodeCategory(c) is UnicodeCategory.NonSpacingMark
            or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.ConnectorPunctuation or UnicodeCategory.LetterNumber
        || c is '\u00B7' or '\u0387' or (>= '\u1369' and <= '\u1371') or '\u19DA';

    private static (Token Token, int End) Name(string source, int start, int line)
    {
        var end = start + 1;
        while (end < source.Length && IsNamePart(source[end]))
        {
            end++;
        }

        if (!char.IsLetter(source[start]) && source[start] != '_')
        {
            throw TemplateFailure.Syntax("Invalid character in identifier", line);
        }

        return (new Token(TokenKind.Name, source[start..end], line), end);
    }

    private static (Token Token, int End) Number(string source, int start, int line)
    {
        if ((start == 0 || source[start - 1] != '.') && FloatEnd(source, start) is { } floatEnd)
        {
            var value = double.Parse(Plain(source[start..floatEnd]), NumberStyles.Float, CultureInfo.InvariantCulture);
            return (new Token(TokenKind.Float, "", line, value), floatEnd);
        }

        var end = IntegerEnd(source, start);
        var text = Plain(source[start..end]);
        if (text.Length > RenderLimits.IntegerBits / 4)
        {
            throw TemplateFailure.Syntax("the number has too many digits", line);
        }

        var integer = PyConvert.ParseInteger(text, 0);
        return (new Token(TokenKind.Integer, "", line, integer), end);
    }

    private static string Plain(string number) => number.Replace("_", "", StringComparison.Ordinal);

    /// <summary>Digits, then a fraction, an exponent or both; null where there is neither.</summary>
    private static int? FloatEnd(string source, int start)
    {
        var digits = Digits(source, start, IsDigit);
        var end = digits;
        if (At(source, end) == '.' && IsDigit(At(source, end + 1)))
        {
            end = Digits(source, end + 1, IsDigit);
        }

        if (At(source, end) is 'e' or 'E')
        {
            var exponent = At(source, end + 1) is '+' or '-' ? end + 2 : end + 1;
            if (IsDigit(At(source, exponent)))
            {
                return Digits(source, exponent, IsDigit);
            }
        }

        return end > digits ? end : null;
    }

    private static int IntegerEnd(string source, int start)
    {
        Func<char, bool>? isDigit = At(source, start) != '0' ? null : At(source, start + 1) switch
        {
            'b' or 'B' => c => c is '0' or '1',
            'o' or 'O' => c => c is >= '0' and <= '7',
            'x' or 'X' => char.IsAsciiHexDigit,
            _ => null,
        };
        if (isDigit is not null)
        {
            var first = At(source, start + 2) == '_' ? start + 3 : start + 2;
            if (isDigit(At(source, first)))
            {
                return Digits(source, first, isDigit);
            }
        }

        return Digits(source, start, source[start] == '0' ? c => c == '0' : IsDigit);
    }

    /// <summary>The end of digits with single underscores between them.</summary>
    private static int Digits(string source, int at, Func<char, bool> isDigit)
    {
        while (isDigit(At(source, at)) || (At(source, at) == '_' && isDigit(At(source, at + 1))))
        {
            at++;
        }

        return at;
    }

    private static char At(string source, int index) => index < source.Length ? source[index] : '\0';

    private static (Token Token, int End) String(string source, int start, int line)
    {
        var quote = source[start];
        for (var at = start + 1; at < source.Length; at++)
        {
            if (source[at] == '\\')
            {
                at++;
            }
            else if (source[at] == quote)
            {
                return (new Token(TokenKind.String, StringEscapes.Decode(source.AsSpan(start + 1, at - start - 1), line), line), at + 1);
            }
        }

        throw TemplateFailure.Syntax($"unexpected char {PyRepr.Quote(quote.ToString())} at {start}", line);
    }
}
