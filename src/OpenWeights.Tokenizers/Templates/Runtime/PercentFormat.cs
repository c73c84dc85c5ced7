using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's <c>format % values</c>.</summary>
internal sealed class PercentFormat
{
    private readonly RenderState state;
    private readonly PyString format;
    private readonly object? values;
    private readonly TextBuilder builder;
    private int position;
    private int taken;

    private PercentFormat(RenderState state, PyString format, object? values)
    {
        this.state = state;
        this.format = format;
        this.values = values;
        builder = state.NewText();
    }

    /// <exception cref="TemplateFailure">The values do not fit the format.</exception>
    public static PyString Apply(RenderState state, PyString format, object? values) => new PercentFormat(state, format, values).Run();

    private PyString Run()
    {
        var text = format.Value;
        while (position < text.Length)
        {
            var percent = text.IndexOf('%', position);
            var stop = percent < 0 ? text.Length : percent;
            builder.Append(format, position, stop);
            position = stop + 1;
            if (percent >= 0)
            {
                Directive();
            }
        }

        var isMapping = values is PyDict or PyList or PyRange or Undefined;
        var count = values is PyTuple tuple ? tuple.Items.Length : 1;
        if (!isMapping && taken < count)
        {
            throw TemplateFailure.Type("not all arguments converted during string formatting");
        }

        return builder.Build(format.IsMarkup);
    }

    private void Directive()
    {
        object? keyed = Missing.Value;
        if (Peek() == '(')
        {
            keyed = Key();
        }

        var flags = "";
        while ("-+ #0".Contains(Peek()))
        {
            flags += Peek();
            position++;
        }

        var width = Size() ?? 0;
        int? precision = null;
        if (Peek() == '.')
        {
            position++;
            precision = (int)Math.Max(0, Size() ?? 0);
        }

        while (Peek() is 'h' or 'l' or 'L')
        {
            position++;
        }

        var type = Peek();
        position++;
        if (type == '%')
        {
            builder.Append('%');
            return;
        }

        var value = ReferenceEquals(keyed, Missing.Value) ? Next() : keyed;
        var isLeft = flags.Contains('-') || width < 0;
        Pad(Convert(type, value, flags, precision), Math.Abs(width), isLeft, flags.Contains('0') && !isLeft && "diuoxXeEfFgG".Contains(type));
    }

    private char Peek() =>
        position < format.Value.Length ? format.Value[position] : throw TemplateFailure.Runtime("incomplete format");

    private object? Key()
    {
        var (start, depth) = (position + 1, 0);
        do
        {
            depth += Peek() switch { '(' => 1, ')' => -1, _ => 0 };
            position++;
        }
        while (depth > 0);

        if (values is not PyDict dict)
        {
            throw TemplateFailure.Type("format requires a mapping");
        }

        var key = format.Value[start..(position - 1)];
        return dict.TryGet(key, out var value) ? value : throw TemplateFailure.Runtime(PyRepr.Quote(key));
    }

    private long? Size()
    {
        if (Peek() == '*')
        {
            position++;
            return Next() is long size ? size : throw TemplateFailure.Type("* wants int");
        }

        long? number = null;
        while (char.IsAsciiDigit(Peek()))
        {
            number = Math.Min(((number ?? 0) * 10) + Peek() - '0', int.MaxValue);
            position++;
        }

        return number;
    }

    private object? Next()
    {
        var all = values is PyTuple tuple ? tuple.Items : [values];
        return taken < all.Length ? all[taken++] : throw TemplateFailure.Type("not enough arguments for format string");
    }

    /// <summary>The sign or prefix, and what follows it.</summary>
    private (string Prefix, PyString Body) Convert(char type, object? value, string flags, int? precision)
    {
        switch (type)
        {
            case 's' or 'r' or 'a':
                var text = type == 's' ? PyConvert.ToStr(state, value) : Repr(value);
                text = format.IsMarkup ? Html.Escape(state, type == 's' ? value : text) : text;
                return ("", precision is { } most && most < text.Length ? text.Slice(0, text.ToUnit(most)) : text);
            case 'c':
                return ("", Character(value));
            case 'd' or 'i' or 'u' or 'o' or 'x' or 'X':
                return Integer(type, value, flags, precision);
            case 'e' or 'E' or 'f' or 'F' or 'g' or 'G':
                var number = ToFloat(value);
                var magnitude = NumberText.Magnitude(number, type, precision ?? 6, flags.Contains('#'));
                return (Sign(double.IsNegative(number), flags), PyString.Of(magnitude));
            default:
                throw TemplateFailure.Runtime($"unsupported format character {PyRepr.Quote(type.ToString())} (0x{(int)type:x}) at index {position - 1}");
        }
    }

    private PyString Repr(object? value)
    {
        var text = state.NewText();
        PyRepr.Write(text, value);
        return text.Build();
    }

    private static (string Prefix, PyString Body) Integer(char type, object? value, string flags, int? precision)
    {
        var needed = type is 'x' or 'X' or 'o' ? "an integer" : "a real number";
        BigInteger number = value switch
        {
            long or bool or BigInteger => PyArithmetic.ToBig(value),
            double d when needed == "a real number" && double.IsFinite(d) => new BigInteger(Math.Truncate(d)),
            Undefined undefined => throw undefined.Failure(),
            _ => throw TemplateFailure.Type($"%{type} format: {needed} is required, not {PyType.Name(value)}"),
        };
        var digits = NumberText.Digits(number, type is 'i' or 'u' ? 'd' : type);
        var prefix = flags.Contains('#') && (type is 'x' or 'X' or 'o') ? "0" + type : "";
        return (Sign(number.Sign < 0, flags) + prefix, PyString.Of(digits.PadLeft(Math.Min(precision ?? 0, 10_000), '0')));
    }

    private static double ToFloat(object? value) => value is PyString or null or PyList or PyDict or PyTuple
        ? throw TemplateFailure.Type($"must be real number, not {PyType.Name(value)}")
        : PyConvert.ToDouble(value);

    private static PyString Character(object? value) => value switch
    {
        PyString { Length: 1 } text => text,
        long code when code is >= 0 and <= 0xFFFF => PyString.OfChar((char)code),
        long code when code is >= 0 and <= 0x10FFFF => PyString.Of(char.ConvertFromUtf32((int)code)),
        long => throw TemplateFailure.Runtime("%c arg not in range(0x110000)"),
        _ => throw TemplateFailure.Type("%c requires int or char"),
    };

    private static string Sign(bool isNegative, string flags) =>
        isNegative ? "-" : flags.Contains('+') ? "+" : flags.Contains(' ') ? " " : "";

    private void Pad((string Prefix, PyString Body) text, long width, bool isLeft, bool withZeros)
    {
        var missing = (int)Math.Min(Math.Max(0, width - text.Prefix.Length - text.Body.Length), int.MaxValue / 2);
        builder.Append(' ', isLeft || withZeros ? 0 : missing);
        builder.Append(text.Prefix);
        builder.Append('0', withZeros ? missing : 0);
        builder.Append(text.Body);
        builder.Append(' ', isLeft ? missing : 0);
    }
}
