using System.Numerics;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The attributes of numbers.</summary>
internal static class NumberMethods
{
    /// <summary>An attribute; <see cref="Missing.Value"/> if there is none of that name.</summary>
    public static object? Attribute(object number, string name) => name switch
    {
        "real" => PyArithmetic.Plus(number),
        "imag" => number is double ? (object)0.0 : 0L,
        "numerator" when number is not double => PyArithmetic.Plus(number),
        "denominator" when number is not double => 1L,
        "bit_length" when number is not double => Bound(name, () => (long)BigInteger.Abs(PyArithmetic.ToBig(number)).GetBitLength()),
        "is_integer" when number is double value => Bound(name, () => double.IsFinite(value) && value == Math.Floor(value)),
        "conjugate" => Bound(name, () => PyArithmetic.Plus(number)),
        _ => Missing.Value,
    };

    private static BuiltinFunction Bound(string name, Func<object?> body) => new(name, "builtin_function_or_method", (state, arguments) =>
    {
        _ = new Signature(name, 0).Fit(arguments);
        return body();
    });
}
