using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's comparisons and the operators of sequences; those of numbers are in <see cref="PyArithmetic"/>.</summary>
internal static class PyOperators
{
    /// <summary><c>left + right</c>.</summary>
    public static object? Add(RenderState state, object? left, object? right)
    {
        switch (left, right)
        {
            case (PyString a, PyString b):
                return Concat(state, a, b);
            case (Undefined undefined, _):
                throw undefined.Failure();
            case (_, Undefined undefined):
                throw undefined.Failure();
            case (PyList a, PyList b):
                state.Step(a.Items.Count + b.Items.Count);
                return new PyList([.. a.Items, .. b.Items]);
            case (PyTuple a, PyTuple b):
                state.Step(a.Items.Length + b.Items.Length);
                return new PyTuple([.. a.Items, .. b.Items]);
            case (PyString { IsMarkup: true }, _):
                return PyArithmetic.Apply(BinaryOperator.Add, left, right);
            case (PyString or PyList or PyTuple, _):
                var type = left is PyString ? "str" : PyType.Name(left);
                throw TemplateFailure.Type($"can only concatenate {type} (not \"{PyType.Name(right)}\") to {type}");
            default:
                return PyArithmetic.Apply(BinaryOperator.Add, left, right);
        }
    }

    /// <summary><c>left * right</c>.</summary>
    public static object? Multiply(RenderState state, object? left, object? right)
    {
        if (left is Undefined || right is Undefined)
        {
            throw ((left as Undefined) ?? (Undefined)right!).Failure();
        }

        var (sequence, count) = left is PyString or PyList or PyTuple ? (left, right) : (right, left);
        if (sequence is not (PyString or PyList or PyTuple))
        {
            return PyArithmetic.Apply(BinaryOperator.Multiply, left, right);
        }

        if (!PyType.IsInteger(count))
        {
            throw TemplateFailure.Type($"can't multiply sequence by non-int of type {PyRepr.Quote(PyType.Name(count))}");
        }

        return Repeat(state, sequence, Math.Max(0, PyConvert.ToIndex(count)));
    }

    /// <summary>Two strings as one; safe HTML escapes what it is joined with.</summary>
    public static PyString Concat(RenderState state, PyString left, PyString right)
    {
        if (left.IsMarkup != right.IsMarkup)
        {
            return left.IsMarkup ? Concat(state, left, Html.Escape(state, right)) : Concat(state, Html.Escape(state, left), right);
        }

        if (left.Units == 0)
        {
            return right;
        }

        return right.Units == 0 ? left : TextBuilder.Join(state, left.IsMarkup, left, right);
    }

    public static bool AreEqual(object? left, object? right)
    {
        if (left is PyString a && right is PyString b)
        {
            return a.Value == b.Value;
        }

        if (PyType.IsNumber(left) && PyType.IsNumber(right))
        {
            return PyArithmetic.CompareNumbers(left!, right!) == 0;
        }

        TemplateFailure.GuardStack();
        return (left, right) switch
        {
            (null, null) => true,
            (PyList x, PyList y) => SequenceEqual(x.Items, y.Items),
            (PyTuple x, PyTuple y) => SequenceEqual(x.Items, y.Items),
            (PyDict x, PyDict y) => DictEqual(x, y),
            (PyRange x, PyRange y) => x.Count == y.Count && (x.Count == 0 || (x.Start == y.Start && (x.Count == 1 || x.Step == y.Step))),
            (DictView { Kind: DictViewKind.Keys } x, DictView { Kind: DictViewKind.Keys } y) =>
                x.Dict.Count == y.Dict.Count && x.Dict.Entries.All(entry => y.Dict.TryGet(entry.Key, out _)),
            (DictView { Kind: DictViewKind.Items } x, DictView { Kind: DictViewKind.Items } y) => DictEqual(x.Dict, y.Dict),
            (Undefined, Undefined) => true,
            _ => ReferenceEquals(left, right),
        };
    }

    /// <summary>Whether <c>left op right</c> holds, for one of <c>&lt; &lt;= &gt; &gt;=</c>.</summary>
    public static bool Order(string symbol, object? left, object? right)
    {
        var order = Compare(symbol, left, right);
        return symbol switch
        {
            "<" => order < 0,
            "<=" => order <= 0,
            ">" => order > 0,
            _ => order >= 0,
        } && order != PyArithmetic.Unordered;
    }

    /// <summary>The order of two values; <see cref="PyArithmetic.Unordered"/> where one is not a number (NaN).</summary>
    public static int Compare(string symbol, object? left, object? right)
    {
        TemplateFailure.GuardStack();
        if (left is Undefined || right is Undefined)
        {
            throw ((left as Undefined) ?? (Undefined)right!).Failure();
        }

        if (PyType.IsNumber(left) && PyType.IsNumber(right))
        {
            return PyArithmetic.CompareNumbers(left!, right!);
        }

        return (left, right) switch
        {
            (PyString a, PyString b) => CompareText(a.Value, b.Value),
            (PyList a, PyList b) => CompareItems(symbol, a.Items, b.Items),
            (PyTuple a, PyTuple b) => CompareItems(symbol, a.Items, b.Items),
            _ => throw TemplateFailure.Type(
                $"'{symbol}' not supported between instances of {PyRepr.Quote(PyType.Name(left))} and {PyRepr.Quote(PyType.Name(right))}"),
        };
    }

    /// <summary><c>item in container</c>.</summary>
    public static bool Contains(RenderState state, object? container, object? item)
    {
        switch (container)
        {
            case PyString text when item is PyString part:
                return text.Value.Contains(part.Value, StringComparison.Ordinal);
            case PyString:
                throw TemplateFailure.Type($"'in <string>' requires string as left operand, not {PyType.Name(item)}");
            case PyDict dict:
                return dict.TryGet(item, out _);
            case DictView { Kind: DictViewKind.Keys } keys:
                return keys.Dict.TryGet(item, out _);
            case PyRange range when PyType.IsInteger(item):
                return RangeContains(range, PyConvert.ToIndex(item));
            case PyNamespace or BuiltinFunction or Macro:
                throw TemplateFailure.Type($"argument of type {PyRepr.Quote(PyType.Name(container))} is not iterable");
            default:
                if (!PyConvert.IsIterable(container))
                {
                    throw TemplateFailure.Type($"argument of type {PyRepr.Quote(PyType.Name(container))} is not iterable");
                }

                return PyConvert.Iterate(state, container).Any(element => ReferenceEquals(element, item) || AreEqual(element, item));
        }
    }

    /// <summary>A big integer as the smallest type that holds it.</summary>
    /// <exception cref="TemplateFailure">It is larger than templates may make.</exception>
    public static object Normal(BigInteger value)
    {
        if (value >= long.MinValue && value <= long.MaxValue)
        {
            return (long)value;
        }

        return value.GetBitLength() <= RenderLimits.IntegerBits
            ? value
            : throw TemplateFailure.Limit($"the template was stopped: it made an integer of more than {RenderLimits.IntegerBits} bits");
    }

    private static object Repeat(RenderState state, object sequence, long count)
    {
        if (sequence is PyString text)
        {
            if (text.Value.Length == 0)
            {
                return text;
            }

            state.CountText(0, count > RenderLimits.TextLength ? long.MaxValue : count * text.Value.Length);
            return RepeatText(state, text, (int)count);
        }

        IReadOnlyList<object?> items = sequence is PyList list ? list.Items : ((PyTuple)sequence).Items;
        count = items.Count == 0 ? 0 : count;
        state.Step(count > RenderLimits.Steps ? RenderLimits.Steps + 1 : count * items.Count);
        var repeated = new List<object?>();
        for (long i = 0; i < count; i++)
        {
            repeated.AddRange(items);
        }

        return sequence is PyList ? new PyList(repeated) : new PyTuple([.. repeated]);
    }

    private static PyString RepeatText(RenderState state, PyString text, int count)
    {
        var builder = state.NewText();
        if (text.Value.Length == 1 && text.Runs is null)
        {
            builder.Append(text.Value[0], count);
            return builder.Build(text.IsMarkup);
        }

        for (var i = 0; i < count; i++)
        {
            builder.Append(text);
        }

        return builder.Build(text.IsMarkup);
    }

    private static bool RangeContains(PyRange range, long value)
    {
        var offset = (Int128)value - range.Start;
        return offset % range.Step == 0 && offset / range.Step >= 0 && offset / range.Step < range.Count;
    }

    private static bool SequenceEqual(IReadOnlyList<object?> left, IReadOnlyList<object?> right)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        for (var i = 0; i < left.Count; i++)
        {
            if (!ReferenceEquals(left[i], right[i]) && !AreEqual(left[i], right[i]))
            {
                return false;
            }
        }

        return true;
    }

    private static bool DictEqual(PyDict left, PyDict right) =>
        left.Count == right.Count
        && left.Entries.All(entry => right.TryGet(entry.Key, out var other) && AreEqual(entry.Value, other));

    private static int CompareItems(string symbol, IReadOnlyList<object?> left, IReadOnlyList<object?> right)
    {
        for (var i = 0; i < Math.Min(left.Count, right.Count); i++)
        {
            if (!AreEqual(left[i], right[i]))
            {
                return Compare(symbol, left[i], right[i]);
            }
        }

        return left.Count.CompareTo(right.Count);
    }

    /// <summary>By code points, which differs from the order of UTF-16 units above U+D7FF.</summary>
    private static int CompareText(string left, string right)
    {
        var at = left.AsSpan().CommonPrefixLength(right);
        if (at == left.Length || at == right.Length)
        {
            return left.Length.CompareTo(right.Length);
        }

        return Weight(left[at]).CompareTo(Weight(right[at]));

        static int Weight(char c) => char.IsSurrogate(c) ? c + 0x10000 : c;
    }
}
