using System.Globalization;
using System.Numerics;
using System.Text;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's conversions: truth, <c>str()</c>, <c>len()</c>, <c>iter()</c>, <c>int()</c>, <c>float()</c>.</summary>
internal static class PyConvert
{
    public static bool IsTrue(object? value) => value switch
    {
        null => false,
        bool b => b,
        PyString s => s.Units > 0,
        long n => n != 0,
        BigInteger big => !big.IsZero,
        double d => d != 0,
        PyList list => list.Items.Count > 0,
        PyTuple tuple => tuple.Items.Length > 0,
        PyDict dict => dict.Count > 0,
        DictView view => view.Dict.Count > 0,
        PyRange range => range.Count > 0,
        LoopContext loop => loop.Length > 0,
        Undefined => false,
        _ => true,
    };

    /// <summary><c>str(value)</c>; a string stays as it is, safe HTML becomes an ordinary string.</summary>
    public static PyString ToStr(RenderState state, object? value)
    {
        switch (value)
        {
            case PyString s:
                return s.AsPlain();
            case Undefined:
                return PyString.Empty;
            case null or bool or long or double:
                return PyString.Of(PyRepr.Scalar(value));
            default:
                var builder = state.NewText();
                PyRepr.Write(builder, value);
                return builder.Build();
        }
    }

    /// <summary>markupsafe's <c>soft_str</c>: a string of either kind stays as it is.</summary>
    public static PyString ToSoftStr(RenderState state, object? value) => value as PyString ?? ToStr(state, value);

    /// <summary><c>len(value)</c>; null where the type has none.</summary>
    public static long? TryLength(object? value) => value switch
    {
        PyString s => s.Length,
        PyList list => list.Items.Count,
        PyTuple tuple => tuple.Items.Length,
        PyDict dict => dict.Count,
        DictView view => view.Dict.Count,
        PyRange range => range.Count,
        LoopContext loop => loop.Length,
        Undefined => 0,
        _ => null,
    };

    public static long Length(object? value) =>
        TryLength(value) ?? throw TemplateFailure.Type($"object of type {PyRepr.Quote(PyType.Name(value))} has no len()");

    public static bool IsIterable(object? value) =>
        value is PyString or PyList or PyTuple or PyDict or DictView or PyRange or PyGenerator or LoopContext or Undefined;

    /// <summary>Goes through a value; each item is a step of the render.</summary>
    /// <exception cref="TemplateFailure">The value cannot be gone through.</exception>
    public static IEnumerable<object?> Iterate(RenderState state, object? value)
    {
        var items = value switch
        {
            PyList list => list.Items,
            PyTuple tuple => tuple.Items,
            PyString s => s.AsPlain().CodePoints(),
            PyDict dict => dict.Entries.Select(entry => entry.Key),
            DictView view => view.Items(),
            PyRange range => range.Items(),
            PyGenerator generator => generator.Rest(),
            LoopContext loop => loop.Rest(),
            Undefined => [],
            _ => throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(value))} object is not iterable"),
        };
        return Counted(state, items);
    }

    /// <summary>All items as a new list.</summary>
    public static List<object?> ToList(RenderState state, object? value) => [.. Iterate(state, value)];

    /// <summary>A whole number that is used as an index, a width or a count.</summary>
    public static long ToIndex(object? value) => value switch
    {
        long n => n,
        bool b => b ? 1 : 0,
        BigInteger big => big.Sign < 0 ? long.MinValue : long.MaxValue,
        Undefined undefined => throw undefined.Failure(),
        _ => throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(value))} object cannot be interpreted as an integer"),
    };

    public static double ToDouble(object? value) => value switch
    {
        double d => d,
        long n => n,
        bool b => b ? 1 : 0,
        BigInteger big when double.IsFinite((double)big) => (double)big,
        BigInteger => throw TemplateFailure.Runtime("int too large to convert to float"),
        Undefined undefined => throw undefined.Failure(),
        _ => throw TemplateFailure.Type($"must be real number, not {PyType.Name(value)}"),
    };

    /// <summary><c>float(text)</c>; null where the text is no number.</summary>
    public static double? ParseFloat(string text)
    {
        var trimmed = CleanNumber(text);
        if (trimmed is null)
        {
            return null;
        }

        var sign = trimmed.StartsWith('-') ? -1.0 : 1.0;
        switch (trimmed.TrimStart('+', '-').ToUpperInvariant())
        {
            case "INF" or "INFINITY" when trimmed.Length - trimmed.TrimStart('+', '-').Length <= 1:
                return sign * double.PositiveInfinity;
            case "NAN" when trimmed.Length - trimmed.TrimStart('+', '-').Length <= 1:
                return double.NaN;
        }

        const NumberStyles Styles = NumberStyles.AllowLeadingSign | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;
        return trimmed.Any(char.IsAsciiDigit) && trimmed.All(c => char.IsAsciiDigit(c) || c is '+' or '-' or '.' or 'e' or 'E')
            && double.TryParse(trimmed, Styles, CultureInfo.InvariantCulture, out var value)
            ? value
            : null;
    }

    /// <summary><c>int(text, base)</c>; null where the text is no number in it.</summary>
    public static object? ParseInteger(string text, int numberBase)
    {
        var trimmed = CleanNumber(text);
        if (string.IsNullOrEmpty(trimmed))
        {
            return null;
        }

        var isNegative = trimmed[0] == '-';
        var digits = trimmed[0] is '+' or '-' ? trimmed[1..] : trimmed;
        var prefix = digits.Length > 1 && digits[0] == '0' ? char.ToUpperInvariant(digits[1]) : ' ';
        var prefixBase = prefix switch { 'B' => 2, 'O' => 8, 'X' => 16, _ => 0 };
        if (prefixBase != 0 && (numberBase == prefixBase || numberBase == 0))
        {
            (numberBase, digits) = (prefixBase, digits[2..]);
        }

        numberBase = numberBase == 0 ? 10 : numberBase;
        if (digits.Length == 0 || digits.Length > RenderLimits.IntegerBits / 4)
        {
            return null;
        }

        BigInteger value = 0;
        foreach (var c in digits)
        {
            var digit = char.IsAsciiDigit(c) ? c - '0' : char.IsAsciiLetter(c) ? char.ToUpperInvariant(c) - 'A' + 10 : int.MaxValue;
            if (digit >= numberBase)
            {
                return null;
            }

            value = (value * numberBase) + digit;
        }

        return PyOperators.Normal(isNegative ? -value : value);
    }

    /// <summary>Without surrounding space, with ASCII digits, without underscores between digits; null where those are misplaced.</summary>
    private static string? CleanNumber(string text)
    {
        var builder = new StringBuilder(text.Length);
        var (start, end) = (0, text.Length);
        while (start < end && PyUnicode.IsSpace(text[start]))
        {
            start++;
        }

        while (end > start && PyUnicode.IsSpace(text[end - 1]))
        {
            end--;
        }

        for (var i = start; i < end; i++)
        {
            var digit = CharUnicodeInfo.GetDecimalDigitValue(text[i]);
            if (text[i] == '_')
            {
                if (i == start || i + 1 == end || !char.IsAsciiLetterOrDigit(text[i - 1]) || !char.IsAsciiLetterOrDigit(text[i + 1]))
                {
                    return null;
                }
            }
            else
            {
                _ = builder.Append(digit >= 0 ? (char)('0' + digit) : text[i]);
            }
        }

        return builder.ToString();
    }

    private static IEnumerable<object?> Counted(RenderState state, IEnumerable<object?> items)
    {
        foreach (var item in items)
        {
            state.Step();
            yield return item;
        }
    }
}
