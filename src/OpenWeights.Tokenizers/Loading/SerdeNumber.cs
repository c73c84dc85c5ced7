namespace OpenWeights.Tokenizers;

/// <summary>
/// Reads a decimal number as Rust's serde_json does by default: all digits as one integer, rounded, then divided by a power of ten,
/// rounded again. The last bit can differ from the nearest float64, and among equally good cuts of a text it decides.
/// </summary>
internal static class SerdeNumber
{
    /// <summary>Parses the text of a JSON number.</summary>
    public static double Parse(ReadOnlySpan<byte> text)
    {
        var at = 0;
        var isNegative = text[0] == (byte)'-';
        at += isNegative ? 1 : 0;
        ulong digits = 0;
        var exponent = 0;
        at = ReadInteger(text, at, ref digits, ref exponent);
        if (at < text.Length && text[at] == (byte)'.')
        {
            at = ReadFraction(text, at + 1, ref digits, ref exponent);
        }

        if (at < text.Length)
        {
            exponent += ReadExponent(text[(at + 1)..]);
        }

        var value = Scale(digits, exponent);
        return isNegative ? -value : value;
    }

    private static int ReadInteger(ReadOnlySpan<byte> text, int at, ref ulong digits, ref int exponent)
    {
        var isFull = false;
        for (; at < text.Length && IsDigit(text[at]); at++)
        {
            isFull = isFull || Overflows(digits, text[at]);
            if (isFull)
            {
                exponent++;
            }
            else
            {
                digits = (digits * 10) + (ulong)(text[at] - '0');
            }
        }

        return at;
    }

    private static int ReadFraction(ReadOnlySpan<byte> text, int at, ref ulong digits, ref int exponent)
    {
        // Digits that no longer fit into 64 bits are left out.
        var isFull = exponent > 0;
        for (; at < text.Length && IsDigit(text[at]); at++)
        {
            isFull = isFull || Overflows(digits, text[at]);
            if (!isFull)
            {
                digits = (digits * 10) + (ulong)(text[at] - '0');
                exponent--;
            }
        }

        return at;
    }

    private static int ReadExponent(ReadOnlySpan<byte> text)
    {
        var isNegative = text[0] == (byte)'-';
        var value = 0;
        foreach (var digit in text)
        {
            value = IsDigit(digit) ? Math.Min(100_000, (value * 10) + digit - '0') : value;
        }

        return isNegative ? -value : value;
    }

    private static double Scale(ulong digits, int exponent)
    {
        double value = digits;
        while (exponent < -308)
        {
            value /= 1e308;
            exponent += 308;
        }

        return exponent < 0 ? value / PowerOfTen(-exponent) : value * PowerOfTen(Math.Min(exponent, 308));
    }

    private static double PowerOfTen(int exponent) =>
        double.Parse($"1e{exponent}", System.Globalization.CultureInfo.InvariantCulture);

    private static bool Overflows(ulong digits, byte next) =>
        digits > ulong.MaxValue / 10 || (digits == ulong.MaxValue / 10 && next - '0' > (int)(ulong.MaxValue % 10));

    private static bool IsDigit(byte value) => value is >= (byte)'0' and <= (byte)'9';
}
