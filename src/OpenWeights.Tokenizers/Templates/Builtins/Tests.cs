using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using System.Numerics;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>jinja2's tests: what can follow <c>is</c>.</summary>
internal static class Tests
{
    private static readonly FrozenDictionary<string, BuiltinFunction> Functions = All().ToFrozenDictionary(test => test.Name);

    public static bool TryGet(string name, [MaybeNullWhen(false)] out BuiltinFunction test) => Functions.TryGetValue(name, out test);

    /// <summary>A test by name, for <c>select</c> and its like.</summary>
    public static BuiltinFunction Get(string name) =>
        TryGet(name, out var test) ? test : throw TemplateFailure.Runtime($"No test named {PyRepr.Quote(name)}.");

    private static IEnumerable<BuiltinFunction> All() =>
    [
        Of("boolean", value => value is bool),
        Of("callable", value => value is IPyCallable or Undefined),
        Of("defined", value => value is not Undefined),
        Two("divisibleby", (state, value, divisor) => IsZero(Modulo(state, value, divisor))),
        Of("escaped", value => value is PyString { IsMarkup: true }),
        One("even", (state, value) => IsZero(Modulo(state, value, 2L))),
        Of("false", value => value is false),
        Of("filter", value => value is PyString name && Filters.TryGet(name.Value, out _)),
        Of("float", value => value is double),
        Two("in", (state, value, container) => PyOperators.Contains(state, container, value)),
        Of("integer", value => value is long or BigInteger),
        Of("iterable", PyConvert.IsIterable),
        One("lower", (state, value) => StringPredicates.IsLower(PyConvert.ToStr(state, value).Value)),
        Of("mapping", value => value is PyDict),
        Of("none", value => value is null),
        Of("number", PyType.IsNumber),
        One("odd", (state, value) => PyOperators.AreEqual(Modulo(state, value, 2L), 1L)),
        Two("sameas", (_, value, other) => IsSame(value, other)),
        Of("sequence", value => value is PyString or PyList or PyTuple or PyDict or PyRange or Undefined),
        Of("string", value => value is PyString),
        Of("test", value => value is PyString name && TryGet(name.Value, out _)),
        Of("true", value => value is true),
        Of("undefined", value => value is Undefined),
        One("upper", (state, value) => StringPredicates.IsUpper(PyConvert.ToStr(state, value).Value)),
        .. Compared("==", "==", "eq", "equalto"),
        .. Compared("!=", "!=", "ne"),
        .. Compared(">", ">", "gt", "greaterthan"),
        .. Compared(">=", ">=", "ge"),
        .. Compared("<", "<", "lt", "lessthan"),
        .. Compared("<=", "<=", "le"),
    ];

    private static BuiltinFunction Of(string name, Func<object?, bool> test) => One(name, (_, value) => test(value));

    private static BuiltinFunction One(string name, Func<RenderState, object?, bool> test)
    {
        var signature = new Signature(name, 1, "value");
        return new BuiltinFunction(name, "function", (state, arguments) => test(state, signature.Fit(arguments)[0]));
    }

    private static BuiltinFunction Two(string name, Func<RenderState, object?, object?, bool> test)
    {
        var signature = new Signature(name, 2, "value", "other");
        return new BuiltinFunction(name, "function", (state, arguments) =>
        {
            var values = signature.Fit(arguments);
            return test(state, values[0], values[1]);
        });
    }

    private static IEnumerable<BuiltinFunction> Compared(string symbol, params string[] names) =>
        names.Select(name => Two(name, (_, left, right) => symbol switch
        {
            "==" => PyOperators.AreEqual(left, right),
            "!=" => !PyOperators.AreEqual(left, right),
            _ => PyOperators.Order(symbol, left, right),
        }));

    private static object? Modulo(RenderState state, object? value, object? divisor) => value is PyString format
        ? PercentFormat.Apply(state, format, divisor)
        : PyArithmetic.Apply(BinaryOperator.Modulo, value, divisor);

    private static bool IsZero(object? value) => PyOperators.AreEqual(value, 0L);

    /// <summary>Identity; of values without one, equality and type.</summary>
    private static bool IsSame(object? value, object? other) => (value, other) switch
    {
        (null, null) => true,
        (bool a, bool b) => a == b,
        (long a, long b) => a == b,
        (PyString { IsMarkup: false } a, PyString { IsMarkup: false } b) => a.Value == b.Value,
        _ => ReferenceEquals(value, other),
    };
}
