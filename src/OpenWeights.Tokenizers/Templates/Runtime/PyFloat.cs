using System.Globalization;
using System.Numerics;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's texts of floats: the shortest that reads back, and exactly rounded ones (halves to even).</summary>
internal static class PyFloat
{
    public static string Repr(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }

        var sign = double.IsNegative(value) ? "-" : "";
        if (value == 0)
        {
            return sign + "0.0";
        }

        var (digits, exponent) = Shortest(Math.Abs(value));
        return sign + Layout(digits, exponent, -4, 16, keepsPoint: true);
    }

    /// <summary><c>%.{precision}f</c> of a finite number.</summary>
    public static string Fixed(double value, int precision)
    {
        var digits = Scaled(Math.Abs(value), precision).ToString(CultureInfo.InvariantCulture).PadLeft(precision + 1, '0');
        var text = precision == 0 ? digits : digits[..^precision] + "." + digits[^precision..];
        return double.IsNegative(value) ? "-" + text : text;
    }

    /// <summary><c>%.{precision}e</c> of a finite number.</summary>
    public static string Scientific(double value, int precision)
    {
        var (digits, exponent) = Significant(Math.Abs(value), precision + 1);
        var text = precision == 0 ? digits : digits[..1] + "." + digits[1..];
        return (double.IsNegative(value) ? "-" : "") + text + ExponentText(exponent);
    }

    /// <summary><c>%.{precision}g</c> of a finite number.</summary>
    /// <param name="value">The number.</param>
    /// <param name="precision">Significant digits.</param>
    /// <param name="alternate">Whether trailing zeros stay (the <c>#</c> flag).</param>
    public static string General(double value, int precision, bool alternate)
    {
        precision = Math.Max(precision, 1);
        var (digits, exponent) = Significant(Math.Abs(value), precision);
        if (!alternate)
        {
            digits = digits.TrimEnd('0');
            digits = digits.Length == 0 ? "0" : digits;
        }

        return (double.IsNegative(value) ? "-" : "") + Layout(digits, exponent, -4, precision, keepsPoint: alternate);
    }

    /// <summary>Python's <c>round(value, digits)</c>.</summary>
    public static double Round(double value, int digits)
    {
        if (!double.IsFinite(value) || digits > 323)
        {
            return value;
        }

        if (digits >= 0)
        {
            return double.Parse(Fixed(value, digits), CultureInfo.InvariantCulture);
        }

        if (digits < -308)
        {
            return value * 0.0;
        }

        var scaled = Scaled(Math.Abs(value), digits) * BigInteger.Pow(10, -digits);
        var rounded = double.Parse(scaled.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        return double.IsNegative(value) ? -rounded : rounded;
    }

    /// <summary>The fewest digits that read back as a positive number, and the exponent of the first.</summary>
    private static (string Digits, int Exponent) Shortest(double value)
    {
        var text = value.ToString("R", CultureInfo.InvariantCulture);
        var e = text.IndexOf('E');
        var exponent = e < 0 ? 0 : int.Parse(text.AsSpan(e + 1), CultureInfo.InvariantCulture);
        var mantissa = e < 0 ? text : text[..e];
        var point = mantissa.IndexOf('.');
        exponent += (point < 0 ? mantissa.Length : point) - 1;
        var digits = mantissa.Replace(".", "", StringComparison.Ordinal);
        var leading = digits.Length - digits.TrimStart('0').Length;
        return (digits[leading..].TrimEnd('0'), exponent - leading);
    }

    /// <summary>Digits and a decimal exponent, written plainly where the exponent is in [low, high), else with an e.</summary>
    private static string Layout(string digits, int exponent, int low, int high, bool keepsPoint)
    {
        if (exponent < low || exponent >= high)
        {
            return (digits.Length == 1 ? digits : digits[..1] + "." + digits[1..]) + ExponentText(exponent);
        }

        if (exponent < 0)
        {
            return "0." + new string('0', -exponent - 1) + digits;
        }

        if (digits.Length <= exponent + 1)
        {
            return digits.PadRight(exponent + 1, '0') + (keepsPoint ? ".0" : "");
        }

        return digits[..(exponent + 1)] + "." + digits[(exponent + 1)..];
    }

    private static string ExponentText(int exponent) =>
        (exponent < 0 ? "e-" : "e+") + Math.Abs(exponent).ToString("00", CultureInfo.InvariantCulture);

    /// <summary>The first digits of a number and its decimal exponent.</summary>
    private static (string Digits, int Exponent) Significant(double value, int count)
    {
        if (value == 0)
        {
            return (new string('0', count), 0);
        }

        // The logarithm may be off by one, and rounding may carry into another digit: the right exponent gives the right count.
        for (var exponent = (int)Math.Floor(Math.Log10(value)) - 1; ; exponent++)
        {
            var digits = Scaled(value, count - 1 - exponent).ToString(CultureInfo.InvariantCulture);
            if (digits.Length == count)
            {
                return (digits, exponent);
            }
        }
    }

    /// <summary>A non-negative finite number times a power of ten, rounded to an integer, halves to even: exactly.</summary>
    private static BigInteger Scaled(double value, int power)
    {
        var bits = BitConverter.DoubleToInt64Bits(value);
        var exponent = (int)((bits >> 52) & 0x7FF);
        BigInteger numerator = exponent == 0 ? bits & 0xFFFFFFFFFFFFF : (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
        var shift = (exponent == 0 ? 1 : exponent) - 1075;
        var denominator = BigInteger.One;
        _ = shift >= 0 ? numerator <<= shift : denominator <<= -shift;
        _ = power >= 0 ? numerator *= BigInteger.Pow(10, power) : denominator *= BigInteger.Pow(10, -power);
        var quotient = BigInteger.DivRem(numerator, denominator, out var remainder);
        var half = (remainder * 2).CompareTo(denominator);
        return half > 0 || (half == 0 && !quotient.IsEven) ? quotient + 1 : quotient;
    }
}
