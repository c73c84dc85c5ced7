using System.Globalization;
using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's format specification: <c>[[fill]align][sign][z][#][0][width][grouping][.precision][type]</c>.</summary>
internal sealed class FormatSpec
{
    private string fill = " ";
    private char align;
    private char sign = '-';
    private char grouping;
    private char type;
    private bool isAlternate;
    private int width;
    private int? precision;

    private FormatSpec()
    {
    }

    /// <summary>A value in the form that a specification asks for.</summary>
    /// <exception cref="TemplateFailure">The specification is not one, or not for values of this type.</exception>
    public static PyString Format(RenderState state, object? value, string specification)
    {
        if (specification.Length == 0)
        {
            return PyConvert.ToSoftStr(state, value);
        }

        var spec = Parse(specification);
        switch (value)
        {
            case PyString text:
                return spec.Text(state, text);
            case double number:
                return spec.Number(state, number);
            case long or bool or BigInteger:
                return spec.type is 'e' or 'E' or 'f' or 'F' or 'g' or 'G' or '%'
                    ? spec.Number(state, PyConvert.ToDouble(value))
                    : spec.Integer(state, PyArithmetic.ToBig(value));
            default:
                throw TemplateFailure.Type($"unsupported format string passed to {PyType.Name(value)}.__format__");
        }
    }

    private static FormatSpec Parse(string text)
    {
        var (spec, at) = (new FormatSpec(), 0);
        var fillWidth = PyString.WidthAt(text, 0);
        if (text.Length > fillWidth && IsAlign(text[fillWidth]))
        {
            (spec.fill, spec.align, at) = (text[..fillWidth], text[fillWidth], fillWidth + 1);
        }
        else if (IsAlign(text[0]))
        {
            (spec.align, at) = (text[0], 1);
        }

        if (at < text.Length && text[at] is '+' or '-' or ' ')
        {
            spec.sign = text[at++];
        }

        if (at < text.Length && text[at] == 'z')
        {
            throw TemplateFailure.Runtime("Negative zero coercion (z) not allowed in string format specifier");
        }

        if (at < text.Length && text[at] == '#')
        {
            (spec.isAlternate, at) = (true, at + 1);
        }

        if (at < text.Length && text[at] == '0')
        {
            (spec.fill, spec.align) = spec.align == '\0' ? ("0", '=') : (spec.fill, spec.align);
            at++;
        }

        spec.width = Number(text, ref at) ?? 0;
        if (at < text.Length && text[at] is ',' or '_')
        {
            spec.grouping = text[at++];
        }

        if (at < text.Length && text[at] == '.')
        {
            at++;
            spec.precision = Number(text, ref at) ?? throw TemplateFailure.Runtime("Format specifier missing precision");
        }

        if (at < text.Length)
        {
            spec.type = text[at++];
        }

        return at == text.Length ? spec : throw TemplateFailure.Runtime("Invalid format specifier");
    }

    private static bool IsAlign(char c) => c is '<' or '>' or '=' or '^';

    private static int? Number(string text, ref int at)
    {
        var start = at;
        while (at < text.Length && char.IsAsciiDigit(text[at]))
        {
            at++;
        }

        if (at == start)
        {
            return null;
        }

        return int.TryParse(text.AsSpan(start, at - start), CultureInfo.InvariantCulture, out var number)
            ? number
            : throw TemplateFailure.Runtime("Too many decimal digits in format string");
    }

    private PyString Text(RenderState state, PyString text)
    {
        if (type is not ('\0' or 's'))
        {
            throw TemplateFailure.Runtime($"Unknown format code '{type}' for object of type 'str'");
        }

        if (sign != '-' || align == '=')
        {
            throw TemplateFailure.Runtime(align == '=' ? "'=' alignment not allowed in string format specifier" : "Sign not allowed in string format specifier");
        }

        var cut = precision is { } most && most < text.Length ? text.Slice(0, text.ToUnit(most)) : text;
        return Aligned(state, "", cut, '<');
    }

    private PyString Integer(RenderState state, BigInteger number)
    {
        if (precision is not null)
        {
            throw TemplateFailure.Runtime("Precision not allowed in integer format specifier");
        }

        if (type == 'c')
        {
            return Aligned(state, "", PyString.Of(char.ConvertFromUtf32((int)number)), '<');
        }

        if (type is not ('\0' or 'd' or 'n' or 'b' or 'o' or 'x' or 'X'))
        {
            throw TemplateFailure.Runtime($"Unknown format code '{type}' for object of type 'int'");
        }

        var digits = NumberText.Digits(number, type);
        var isBinary = type is 'b' or 'o' or 'x' or 'X';
        var prefix = isAlternate && isBinary ? "0" + type : "";
        return Numeric(state, Sign(number.Sign < 0) + prefix, digits, isBinary ? 4 : 3);
    }

    private PyString Number(RenderState state, double number)
    {
        var magnitude = type switch
        {
            '\0' when precision is null => PyFloat.Repr(Math.Abs(number)),
            '\0' => General(number),
            'e' or 'E' or 'f' or 'F' or 'g' or 'G' or '%' => NumberText.Magnitude(number, type, precision ?? 6, isAlternate),
            'n' => NumberText.Magnitude(number, 'g', precision ?? 6, isAlternate),
            _ => throw TemplateFailure.Runtime($"Unknown format code '{type}' for object of type 'float'"),
        };
        return Numeric(state, Sign(double.IsNegative(number)), magnitude, 3);
    }

    /// <summary>Like <c>g</c>, but with at least one digit after the point.</summary>
    private string General(double number)
    {
        var text = NumberText.Magnitude(number, 'g', precision!.Value, isAlternate);
        return text.All(char.IsAsciiDigit) && text.Length < Math.Max(precision.Value, 1) + 1 ? text + ".0" : text;
    }

    private string Sign(bool isNegative) => isNegative ? "-" : sign == '-' ? "" : sign.ToString();

    private PyString Numeric(RenderState state, string prefix, string digits, int groupSize)
    {
        if (grouping != '\0')
        {
            digits = NumberText.Group(digits, grouping, groupSize);
            while (fill == "0" && align == '=' && prefix.Length + digits.Length < Math.Min(width, 10_000))
            {
                var grown = NumberText.Group("0" + digits.Replace(grouping.ToString(), "", StringComparison.Ordinal), grouping, groupSize);
                if (prefix.Length + grown.Length > width && grown.Length > digits.Length + 1)
                {
                    digits = grown;
                    break;
                }

                digits = grown;
            }
        }

        return Aligned(state, prefix, PyString.Of(digits), '>');
    }

    private PyString Aligned(RenderState state, string prefix, PyString body, char usual)
    {
        long missing = Math.Max(0, width - prefix.Length - body.Length);
        var where = align == '\0' ? usual : align;
        var left = where switch { '<' => 0, '^' => missing / 2, _ => missing };
        var padding = PyString.Of(fill);
        var builder = state.NewText();
        builder.Append(where == '=' ? prefix : "");
        builder.Append((PyString)PyOperators.Multiply(state, padding, left)!);
        builder.Append(where == '=' ? "" : prefix);
        builder.Append(body);
        builder.Append((PyString)PyOperators.Multiply(state, padding, missing - left)!);
        return builder.Build();
    }
}
