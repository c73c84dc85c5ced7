using System.Globalization;
using System.Text;

using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>Python's <c>str.is...</c> questions about characters.</summary>
internal static class StringPredicates
{
    public static bool IsAlpha(string text) => All(text, Rune.IsLetter);

    public static bool IsAlphanumeric(string text) => All(text, rune => Rune.IsLetter(rune) || IsNumericRune(rune));

    public static bool IsDecimal(string text) => All(text, rune => Rune.GetUnicodeCategory(rune) == UnicodeCategory.DecimalDigitNumber);

    public static bool IsDigit(string text) => All(text, rune => CharUnicodeInfo.GetDigitValue(rune.ToString(), 0) >= 0);

    public static bool IsNumeric(string text) => All(text, IsNumericRune);

    public static bool IsPrintable(string text) => text.Length == 0 || All(text, PyUnicode.IsPrintable);

    public static bool IsIdentifier(string text)
    {
        var isFirst = true;
        return All(text, rune =>
        {
            var category = Rune.GetUnicodeCategory(rune);
            var begins = Rune.IsLetter(rune) || rune.Value == '_' || category == UnicodeCategory.LetterNumber;
            var continues = begins || category is UnicodeCategory.DecimalDigitNumber or UnicodeCategory.NonSpacingMark
                or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.ConnectorPunctuation;
            var fits = isFirst ? begins : continues;
            isFirst = false;
            return fits;
        });
    }

    public static bool IsLower(string text) => HasCaseOnly(text, Rune.IsLower);

    public static bool IsUpper(string text) => HasCaseOnly(text, Rune.IsUpper);

    public static bool IsTitle(string text)
    {
        var (isInside, found) = (false, false);
        foreach (var rune in text.EnumerateRunes())
        {
            var isCased = PyUnicode.IsCased(rune);
            if (isCased && isInside != Rune.IsLower(rune))
            {
                return false;
            }

            found |= isCased;
            isInside = isCased;
        }

        return found;
    }

    private static bool IsNumericRune(Rune rune) => Rune.GetNumericValue(rune) >= 0 || CharUnicodeInfo.GetNumericValue(rune.ToString(), 0) != -1;

    /// <summary>Whether some characters have a case and all of those have the wanted one.</summary>
    private static bool HasCaseOnly(string text, Func<Rune, bool> isWanted)
    {
        var found = false;
        foreach (var rune in text.EnumerateRunes())
        {
            if (PyUnicode.IsCased(rune))
            {
                if (!isWanted(rune))
                {
                    return false;
                }

                found = true;
            }
        }

        return found;
    }

    private static bool All(string text, Func<Rune, bool> holds)
    {
        foreach (var rune in text.EnumerateRunes())
        {
            if (!holds(rune))
            {
                return false;
            }
        }

        return text.Length > 0;
    }
}
