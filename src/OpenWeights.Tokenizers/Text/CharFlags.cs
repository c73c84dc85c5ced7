using System.Globalization;
using System.Runtime.CompilerServices;

namespace OpenWeights.Tokenizers;

/// <summary>
/// What the split patterns of published tokenizers ask of a character, as bits: its general category (Unicode, as .NET
/// knows it, with planes above the BMP) and whether it is white space.
/// </summary>
internal static class CharFlags
{
    /// <summary>\p{L}</summary>
    public const byte Letter = 1;

    /// <summary>\p{N}</summary>
    public const byte Number = 2;

    /// <summary>\s: the Unicode property White_Space.</summary>
    public const byte White = 4;

    /// <summary>Carriage return or line feed.</summary>
    public const byte LineBreak = 8;

    private static readonly byte[] s_bmp = BuildBmp();

    /// <summary>The flags of the character that begins at <paramref name="index"/>, and its units (1, or 2 for a surrogate pair).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte At(ReadOnlySpan<char> text, int index, out int units)
    {
        var unit = text[index];
        units = 1;
        return char.IsHighSurrogate(unit) ? AtPair(text, index, out units) : s_bmp[unit];
    }

    /// <summary>The flags of a code point.</summary>
    public static byte Of(int codePoint) => codePoint < 0x10000 ? s_bmp[codePoint] : Classify(codePoint);

    private static byte AtPair(ReadOnlySpan<char> text, int index, out int units)
    {
        if (index + 1 < text.Length && char.IsLowSurrogate(text[index + 1]))
        {
            units = 2;
            return Classify(char.ConvertToUtf32(text[index], text[index + 1]));
        }

        units = 1;
        return 0;
    }

    private static byte[] BuildBmp()
    {
        var flags = new byte[0x10000];
        for (var i = 0; i < flags.Length; i++)
        {
            flags[i] = Classify(i);
        }

        return flags;
    }

    private static byte Classify(int codePoint)
    {
        var flags = CharUnicodeInfo.GetUnicodeCategory(codePoint) switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
                or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Number,
            _ => (byte)0,
        };
        if (codePoint < 0x10000 && char.IsWhiteSpace((char)codePoint))
        {
            flags |= White;
        }

        return codePoint is '\r' or '\n' ? (byte)(flags | LineBreak) : flags;
    }
}
