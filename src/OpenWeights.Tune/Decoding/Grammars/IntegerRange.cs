using System.Globalization;
using System.Numerics;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>The whole numbers between two bounds, as they are written.</summary>
internal static class IntegerRange
{
    // As many digits as a number has that every reader keeps exactly.
    private const int UsualDigits = 16;

    /// <summary>The expression of the numbers.</summary>
    /// <param name="least">The smallest; null for no bound.</param>
    /// <param name="most">The largest; null for no bound.</param>
    internal static GrammarNode Of(BigInteger? least, BigInteger? most)
    {
        var digits = Math.Max(UsualDigits, Math.Max(Length(least), Length(most)) + 1);
        var largest = BigInteger.Pow(10, digits) - 1;
        var (low, high) = (least ?? -largest, most ?? largest);
        var choices = new List<GrammarNode>();
        if (high >= 0 && high >= low)
        {
            choices.Add(NotNegative(BigInteger.Max(low, 0), high));
        }

        if (low < 0 && high >= low)
        {
            choices.Add(GrammarNode.Row(GrammarNode.Of("-"), NotNegative(BigInteger.Max(-high, 1), -low)));
        }

        return GrammarNode.AnyOf(choices);
    }

    private static int Length(BigInteger? number) => number is { } value ? BigInteger.Abs(value).ToString(CultureInfo.InvariantCulture).Length : 0;

    private static GrammarNode NotNegative(BigInteger low, BigInteger high)
    {
        var choices = new List<GrammarNode>();
        for (var length = Length(low); length <= Length(high); length++)
        {
            var first = BigInteger.Max(low, length == 1 ? 0 : BigInteger.Pow(10, length - 1));
            var last = BigInteger.Min(high, BigInteger.Pow(10, length) - 1);
            choices.Add(DigitRanges.Between(Digits(first), Digits(last), [.. Enumerable.Repeat(9, length)], static (_, from, to) => new GrammarNode.Chars(CharSet.Of(('0' + from, '0' + to)))));
        }

        return GrammarNode.AnyOf(choices);
    }

    private static int[] Digits(BigInteger value) => [.. value.ToString(CultureInfo.InvariantCulture).Select(static c => c - '0')];
}
