namespace OpenWeights.Tokenizers;

/// <summary>
/// The split pattern of cl100k_base as Llama 3 (numbers in threes) and Qwen 2 (digit by digit) spell it, by hand:
/// <c>(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+</c>.
/// </summary>
/// <param name="longestNumber">Maximum number of digits in a piece: 3 or 1.</param>
internal sealed class Cl100kPattern(int longestNumber) : TilingPattern
{
    /// <summary>The pattern as Llama 3's files spell it.</summary>
    public const string Llama3 =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>The pattern as Qwen 2's files spell it.</summary>
    public const string Qwen2 =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private const byte Kinds = CharFlags.Letter | CharFlags.Number | CharFlags.White;

    public override int End(ReadOnlySpan<char> text, int start)
    {
        var flags = CharFlags.At(text, start, out var units);
        if ((flags & CharFlags.Letter) != 0)
        {
            return PatternScan.EndOfRun(text, start + units, CharFlags.Letter);
        }

        if ((flags & CharFlags.Number) != 0)
        {
            return EndOfNumber(text, start + units);
        }

        if (text[start] == '\'' && Contraction(text, start) is > 0 and var length)
        {
            return start + length;
        }

        // Any one character but a line break may lead a word.
        var next = start + units;
        if ((flags & CharFlags.LineBreak) == 0 && next < text.Length)
        {
            var nextFlags = CharFlags.At(text, next, out var nextUnits);
            if ((nextFlags & CharFlags.Letter) != 0)
            {
                return PatternScan.EndOfRun(text, next + nextUnits, CharFlags.Letter);
            }

            if (text[start] == ' ' && (nextFlags & Kinds) == 0)
            {
                return EndOfSymbols(text, next + nextUnits);
            }
        }

        return (flags & CharFlags.White) == 0 ? EndOfSymbols(text, next) : EndOfWhiteSpace(text, start);
    }

    private int EndOfNumber(ReadOnlySpan<char> text, int at)
    {
        for (var digits = 1; digits < longestNumber && at < text.Length; digits++)
        {
            if ((CharFlags.At(text, at, out var units) & CharFlags.Number) == 0)
            {
                break;
            }

            at += units;
        }

        return at;
    }

    private static int EndOfSymbols(ReadOnlySpan<char> text, int at)
    {
        while (at < text.Length && (CharFlags.At(text, at, out var units) & Kinds) == 0)
        {
            at += units;
        }

        while (at < text.Length && text[at] is '\r' or '\n')
        {
            at++;
        }

        return at;
    }

    private static int EndOfWhiteSpace(ReadOnlySpan<char> text, int start)
    {
        var end = PatternScan.EndOfRun(text, start, CharFlags.White);
        var lineBreak = text[start..end].LastIndexOfAny('\r', '\n');
        if (lineBreak >= 0)
        {
            return start + lineBreak + 1;
        }

        return end < text.Length && end - start > 1 ? end - 1 : end;
    }

    private static int Contraction(ReadOnlySpan<char> text, int start)
    {
        if (start + 1 >= text.Length)
        {
            return 0;
        }

        switch ((char)(text[start + 1] | 0x20))
        {
            case 's' or 't' or 'm' or 'd':
                return 2;
            case 'r' or 'v' when start + 2 < text.Length && (text[start + 2] | 0x20) == 'e':
                return 3;
            case 'l' when start + 2 < text.Length && (text[start + 2] | 0x20) == 'l':
                return 3;
            default:
                // Ignoring case, the long s is an s (Unicode CaseFolding).
                return text[start + 1] == '\u017F' ? 2 : 0;
        }
    }
}
