using System.Globalization;
using System.Numerics;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The filters of single values: numbers, defaults, attributes.</summary>
internal static class ValueFilters
{
    private static readonly string[] DecimalUnits = ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    private static readonly string[] BinaryUnits = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

    public static object? Abs(object? value) => value switch
    {
        Undefined undefined => throw undefined.Failure(),
        double d => Math.Abs(d),
        long or bool or BigInteger => PyOperators.Normal(BigInteger.Abs(PyArithmetic.ToBig(value))),
        _ => throw TemplateFailure.Type($"bad operand type for abs(): {PyRepr.Quote(PyType.Name(value))}"),
    };

    /// <summary>An attribute proper; never an item.</summary>
    public static object? Attr(RenderState state, object? value, object? name)
    {
        if (value is Undefined undefined)
        {
            throw undefined.Failure();
        }

        var attribute = name is PyString text ? text.Value : throw TemplateFailure.Type("attribute name must be string");
        var found = PyAccess.TryAttribute(state, value, attribute);
        return found is Missing ? new Undefined(attribute, value) : found;
    }

    public static object? Default(object?[] arguments)
    {
        var (value, isByTruth) = (arguments[0], Filters.IsOn(arguments[2]));
        return value is Undefined || (isByTruth && !PyConvert.IsTrue(value)) ? Filters.Or(arguments[1], PyString.Empty) : value;
    }

    public static object? ToInt(object? value, object? usual, object? numberBase)
    {
        if (value is PyString text)
        {
            if (PyConvert.ParseInteger(text.Value, (int)Math.Clamp(PyConvert.ToIndex(numberBase), 0, 36)) is { } parsed)
            {
                return parsed;
            }

            return PyConvert.ParseFloat(text.Value) is { } number && double.IsFinite(number) ? Truncated(number) : usual;
        }

        return value switch
        {
            Undefined undefined => throw undefined.Failure(),
            bool b => b ? 1L : 0L,
            long or BigInteger => value,
            double d when double.IsFinite(d) => Truncated(d),
            double d when double.IsInfinity(d) => throw TemplateFailure.Runtime("cannot convert float infinity to integer"),
            _ => usual,
        };
    }

    public static object? ToFloat(object? value, object? usual) => value switch
    {
        Undefined undefined => throw undefined.Failure(),
        PyString text => PyConvert.ParseFloat(text.Value) ?? usual,
        long or bool or BigInteger or double => PyConvert.ToDouble(value),
        _ => usual,
    };

    public static object? Round(object? value, object? precision, object? method)
    {
        var kind = method is Missing ? "common" : (method as PyString)?.Value;
        if (kind is not ("common" or "ceil" or "floor"))
        {
            throw TemplateFailure.Runtime("method must be common, ceil or floor");
        }

        if (!PyType.IsNumber(value))
        {
            throw TemplateFailure.Type($"type {PyType.Name(value)} doesn't define __round__ method");
        }

        var digits = (int)Math.Clamp(PyConvert.ToIndex(precision), -1000, 1000);
        if (kind != "common")
        {
            var scale = Math.Pow(10, digits);
            var scaled = PyConvert.ToDouble(value) * scale;
            return (kind == "ceil" ? Math.Ceiling(scaled) : Math.Floor(scaled)) / scale;
        }

        return value is double number ? PyFloat.Round(number, digits) : RoundInteger(PyArithmetic.ToBig(value!), digits);
    }

    public static PyString FileSize(object? value, bool isBinary)
    {
        var bytes = ToFloat(value, null) as double? ?? throw TemplateFailure.Type($"could not convert {PyType.Name(value)} to float");
        var (unit, units) = isBinary ? (1024.0, BinaryUnits) : (1000.0, DecimalUnits);
        if (bytes == 1)
        {
            return PyString.Of("1 Byte");
        }

        if (bytes < unit)
        {
            return PyString.Of(string.Create(CultureInfo.InvariantCulture, $"{(long)bytes} Bytes"));
        }

        var at = 0;
        var size = unit * unit;
        while (bytes >= size && at < units.Length - 1)
        {
            size *= unit;
            at++;
        }

        return PyString.Of($"{PyFloat.Fixed(unit * bytes / size, 1)} {units[at]}");
    }

    private static object Truncated(double value) => PyOperators.Normal(new BigInteger(Math.Truncate(value)));

    private static object RoundInteger(BigInteger value, int digits)
    {
        if (digits >= 0)
        {
            return PyOperators.Normal(value);
        }

        var unit = BigInteger.Pow(10, -digits);
        var quotient = BigInteger.DivRem(BigInteger.Abs(value), unit, out var rest);
        var half = (rest * 2).CompareTo(unit);
        quotient += half > 0 || (half == 0 && !quotient.IsEven) ? 1 : 0;
        return PyOperators.Normal(quotient * unit * value.Sign);
    }
}
