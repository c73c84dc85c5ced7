using System.Collections.Frozen;
using System.Numerics;

using OpenWeights.Tokenizers.Templates.Builtins;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>
/// <c>value.name</c> and <c>value[key]</c> by jinja2's rules: an attribute first and then an item, or the other way round; what does
/// not exist is undefined; what the immutable sandbox forbids is undefined and says so when it is used.
/// </summary>
internal static class PyAccess
{
    /// <summary>Attributes that Python gives every object; the sandbox hands none of them out.</summary>
    private static readonly FrozenSet<string> Dunders = new[]
    {
        "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__", "__getattribute__", "__getstate__", "__gt__",
        "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__ne__", "__new__", "__reduce__", "__reduce_ex__", "__repr__",
        "__setattr__", "__sizeof__", "__str__", "__subclasshook__", "__len__", "__getitem__", "__iter__", "__contains__", "__add__",
        "__mul__", "__dict__", "__module__", "__call__", "__globals__", "__code__", "__self__", "__mod__", "__rmod__", "__rmul__",
    }.ToFrozenSet();

    /// <summary><c>value.name</c>.</summary>
    public static object? Attribute(RenderState state, object? value, string name)
    {
        if (value is Undefined undefined)
        {
            throw undefined.Failure();
        }

        var attribute = TryAttribute(state, value, name);
        if (!ReferenceEquals(attribute, Missing.Value))
        {
            return attribute;
        }

        if (value is PyDict dict)
        {
            return dict.TryGet(name, out var item) ? item : new Undefined(name, value);
        }

        return new Undefined(name, value);
    }

    /// <summary><c>value[key]</c>.</summary>
    public static object? Item(RenderState state, object? value, object? key)
    {
        if (value is Undefined undefined)
        {
            throw undefined.Failure();
        }

        var item = TryItem(state, value, key);
        if (!ReferenceEquals(item, Missing.Value))
        {
            return item;
        }

        if (key is PyString name)
        {
            var attribute = TryAttribute(state, value, name.Value);
            return ReferenceEquals(attribute, Missing.Value) ? new Undefined(name, value) : attribute;
        }

        return new Undefined(key, value);
    }

    /// <summary>An attribute proper; <see cref="Missing.Value"/> where the type has none of that name.</summary>
    public static object? TryAttribute(RenderState state, object? value, string name)
    {
        if (name.StartsWith('_'))
        {
            return Dunders.Contains(name) || (value is PyNamespace hidden && hidden.Attributes.TryGet(name, out _))
                ? Undefined.Unsafe(value, name)
                : Missing.Value;
        }

        return value switch
        {
            PyDict dict => DictMethods.Attribute(dict, name),
            PyString text => StringMethods.Attribute(text, name),
            PyNamespace space => space.Attributes.TryGet(name, out var item) ? item : Missing.Value,
            LoopContext loop => loop.Attribute(name),
            PyList list => ListMethods.Attribute(list, name),
            PyTuple tuple => ListMethods.Attribute(tuple, name),
            PyRange range => ListMethods.Attribute(range, name),
            Macro macro => macro.Attribute(name),
            Cycler cycler => cycler.Attribute(name),
            Joiner joiner => joiner.Attribute(name),
            long or bool or BigInteger or double => NumberMethods.Attribute(value, name),
            _ => Missing.Value,
        };
    }

    /// <summary><c>value[start:stop:step]</c>, which unlike an item must exist.</summary>
    public static object Slice(RenderState state, object? value, PySlice slice)
    {
        switch (value)
        {
            case PyList list:
                return new PyList(Pick(state, list.Items, slice));
            case PyTuple tuple:
                return new PyTuple([.. Pick(state, tuple.Items, slice)]);
            case PyString text:
                return SliceText(state, text, slice);
            case PyRange range:
                var (start, step, count) = Bounds(slice, range.Count);
                var first = range[start];
                return new PyRange(first, first + (step * range.Step * count), step * range.Step);
            case Undefined undefined:
                throw undefined.Failure();
            default:
                throw TemplateFailure.Type(value is PyDict
                    ? "unhashable type: 'slice'"
                    : $"{PyRepr.Quote(PyType.Name(value))} object is not subscriptable");
        }
    }

    /// <summary>An item proper; <see cref="Missing.Value"/> where there is none or the type has no items.</summary>
    private static object? TryItem(RenderState state, object? value, object? key) => value switch
    {
        PyDict when key is PyList or PyDict or PySlice => Missing.Value,
        PyDict dict => dict.TryGet(key, out var found) ? found : Missing.Value,
        PyList list => Noticed(state, key, At(list.Items, key)),
        PyTuple tuple => At(tuple.Items, key),
        PyString text => CharacterAt(text, key),
        PyRange range => Position(key, range.Count) is { } at ? range[at] : Missing.Value,
        _ => Missing.Value,
    };

    /// <summary>The first index, the step and the number of items that a slice picks of a sequence.</summary>
    /// <exception cref="TemplateFailure">A bound is no integer, or the step is zero.</exception>
    public static (long Start, long Step, long Count) Bounds(PySlice slice, long length)
    {
        var step = slice.Step is null ? 1 : SliceIndex(slice.Step);
        if (step == 0)
        {
            throw TemplateFailure.Runtime("slice step cannot be zero");
        }

        var (lowest, highest) = step > 0 ? (0L, length) : (-1L, length - 1);
        var start = slice.Start is null ? (step > 0 ? lowest : highest) : Clamp(SliceIndex(slice.Start));
        var stop = slice.Stop is null ? (step > 0 ? highest : lowest) : Clamp(SliceIndex(slice.Stop));
        return (start, step, new PyRange(start, stop, step).Count);

        long Clamp(long index) => Math.Clamp(index < 0 ? (index < -length ? -1 : index + length) : index, lowest, highest);
    }

    private static long SliceIndex(object? value) => value is long or bool or BigInteger
        ? PyConvert.ToIndex(value)
        : throw TemplateFailure.Type("slice indices must be integers or None or have an __index__ method");

    private static List<object?> Pick(RenderState state, IReadOnlyList<object?> items, PySlice slice)
    {
        var (start, step, count) = Bounds(slice, items.Count);
        state.Step(count);
        var picked = new List<object?>((int)count);
        for (long i = 0; i < count; i++)
        {
            picked.Add(items[(int)(start + (i * step))]);
        }

        return picked;
    }

    private static PyString SliceText(RenderState state, PyString text, PySlice slice)
    {
        var (start, step, count) = Bounds(slice, text.Length);
        if (step == 1)
        {
            return count == 0 ? text.Slice(0, 0) : text.Slice(text.ToUnit((int)start), text.ToUnit((int)(start + count)));
        }

        var units = new List<int>(text.Length + 1);
        for (var unit = 0; unit < text.Value.Length; unit += PyString.WidthAt(text.Value, unit))
        {
            units.Add(unit);
        }

        var builder = state.NewText();
        for (long i = 0; i < count; i++)
        {
            var unit = units[(int)(start + (i * step))];
            builder.Append(text, unit, unit + PyString.WidthAt(text.Value, unit));
        }

        return builder.Build(text.IsMarkup);
    }

    private static object? CharacterAt(PyString text, object? key)
    {
        if (Position(key, text.Length) is not { } index)
        {
            return Missing.Value;
        }

        var unit = text.ToUnit((int)index);
        return text.Slice(unit, unit + PyString.WidthAt(text.Value, unit));
    }

    private static object? At(IReadOnlyList<object?> items, object? key) =>
        Position(key, items.Count) is { } index ? items[(int)index] : Missing.Value;

    private static long? Position(object? key, long count)
    {
        if (key is not (long or bool))
        {
            return null;
        }

        var index = PyConvert.ToIndex(key);
        index = index < 0 ? index + count : index;
        return index >= 0 && index < count ? index : null;
    }

    /// <summary>
    /// A loop over numbers that looks up the message of its number is a loop over messages: <c>for i in range(messages|length)</c>.
    /// </summary>
    private static object? Noticed(RenderState state, object? key, object? item)
    {
        if (state.LoopInteger is { } number && state.Turn == 0 && key is long index && index == number && item is PyDict { Turn: not 0 } message)
        {
            state.Turn = message.Turn;
        }

        return item;
    }
}
