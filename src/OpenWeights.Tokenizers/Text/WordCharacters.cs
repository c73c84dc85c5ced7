using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Word characters and white space as Rust's regex crate has them (<c>\w</c> and <c>\s</c>, UTS 18).</summary>
internal static class WordCharacters
{
    /// <summary><c>\w</c>: alphabetic, marks, decimal digits, connectors and the two joiners.</summary>
    public static bool IsWord(int codePoint) => CharUnicodeInfo.GetUnicodeCategory(codePoint) switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber
            or UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark
            or UnicodeCategory.DecimalDigitNumber or UnicodeCategory.ConnectorPunctuation => true,
        // Other_Alphabetic has circled and squared letters, which are symbols by category.
        _ => codePoint is 0x200C or 0x200D or (>= 0x24B6 and <= 0x24E9)
            or (>= 0x1F130 and <= 0x1F149) or (>= 0x1F150 and <= 0x1F169) or (>= 0x1F170 and <= 0x1F189),
    };

    /// <summary>White_Space.</summary>
    public static bool IsSpace(int codePoint) => codePoint < 0x10000 && char.IsWhiteSpace((char)codePoint);

    /// <summary>The categories N* (Unicode 17, as Rust's <c>char::is_numeric</c>).</summary>
    public static bool IsNumeric(int codePoint) =>
        (CharFlags.Of(codePoint) & CharFlags.Number) != 0
        || codePoint is (>= 0x11DE0 and <= 0x11DE9) or (>= 0x16FF4 and <= 0x16FF6);

    /// <summary>Whether the text ends with a word character.</summary>
    public static bool EndsWithWord(ReadOnlySpan<char> text) =>
        !text.IsEmpty && Rune.DecodeLastFromUtf16(text, out var rune, out _) == System.Buffers.OperationStatus.Done && IsWord(rune.Value);

    /// <summary>Whether the text begins with a word character.</summary>
    public static bool StartsWithWord(ReadOnlySpan<char> text) =>
        !text.IsEmpty && Rune.DecodeFromUtf16(text, out var rune, out _) == System.Buffers.OperationStatus.Done && IsWord(rune.Value);

    /// <summary>Start of the trailing white space.</summary>
    public static int StartOfTrailingSpace(ReadOnlySpan<char> text) => text.TrimEnd().Length;

    /// <summary>End of the leading white space.</summary>
    public static int EndOfLeadingSpace(ReadOnlySpan<char> text) => text.Length - text.TrimStart().Length;
}
