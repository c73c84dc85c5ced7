using System.Globalization;
using System.Numerics;
using System.Text;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Numbers as the format languages of Python write them, without sign and padding.</summary>
internal static class NumberText
{
    /// <summary>Beyond this a precision is taken for an attack.</summary>
    private const int MaxDigits = 10_000;

    /// <summary>An integer's digits: <c>d</c>, <c>b</c>, <c>o</c>, <c>x</c> or <c>X</c>.</summary>
    public static string Digits(BigInteger value, char type)
    {
        var magnitude = BigInteger.Abs(value);
        switch (type)
        {
            case 'x':
                return HexDigits(magnitude).ToLowerInvariant();
            case 'X':
                return HexDigits(magnitude);
            case 'b':
                return Bits(magnitude, 1);
            case 'o':
                return Bits(magnitude, 3);
            default:
                return magnitude.ToString(CultureInfo.InvariantCulture);
        }
    }

    /// <summary>A float's magnitude: <c>e</c>, <c>f</c>, <c>g</c> or <c>%</c>, in either case.</summary>
    public static string Magnitude(double value, char type, int precision, bool alternate)
    {
        if (precision > MaxDigits)
        {
            throw TemplateFailure.Limit($"the template was stopped: it formats a number with {precision} digits");
        }

        var magnitude = Math.Abs(value);
        var text = char.ToLowerInvariant(type) switch
        {
            _ when double.IsNaN(value) => "nan",
            _ when double.IsInfinity(value) => "inf",
            'e' => PyFloat.Scientific(magnitude, precision),
            'f' => PyFloat.Fixed(magnitude, precision),
            '%' => PyFloat.Fixed(magnitude * 100, precision),
            _ => PyFloat.General(magnitude, precision, alternate),
        };
        text += type == '%' ? "%" : "";
        return char.IsAsciiLetterUpper(type) ? text.ToUpperInvariant() : text;
    }

    /// <summary>With a separator between groups of digits before the point.</summary>
    public static string Group(string digits, char separator, int size)
    {
        var end = 0;
        while (end < digits.Length && char.IsAsciiHexDigit(digits[end]) && (size == 4 || char.IsAsciiDigit(digits[end])))
        {
            end++;
        }

        var builder = new StringBuilder(digits.Length + (digits.Length / size));
        for (var i = 0; i < end; i++)
        {
            if (i > 0 && (end - i) % size == 0)
            {
                _ = builder.Append(separator);
            }

            _ = builder.Append(digits[i]);
        }

        return builder.Append(digits, end, digits.Length - end).ToString();
    }

    private static string HexDigits(BigInteger magnitude)
    {
        var hex = magnitude.ToString("X", CultureInfo.InvariantCulture).TrimStart('0');
        return hex.Length == 0 ? "0" : hex;
    }

    private static string Bits(BigInteger magnitude, int width)
    {
        if (magnitude.IsZero)
        {
            return "0";
        }

        var digits = new StringBuilder();
        for (; !magnitude.IsZero; magnitude >>= width)
        {
            _ = digits.Append((char)('0' + (int)(magnitude & ((1 << width) - 1))));
        }

        var reversed = digits.ToString().ToCharArray();
        Array.Reverse(reversed);
        return new string(reversed);
    }
}
