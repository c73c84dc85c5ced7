using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The filters of sequences and dicts.</summary>
internal static class SequenceFilters
{
    public static object? First(RenderState state, object? value)
    {
        foreach (var item in PyConvert.Iterate(state, value))
        {
            return item;
        }

        return Undefined.Because("No first item, sequence was empty.");
    }

    public static object? Last(RenderState state, object? value)
    {
        if (value is PyGenerator or LoopContext)
        {
            throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(value))} object is not reversible");
        }

        var items = PyConvert.ToList(state, value);
        return items.Count > 0 ? items[^1] : Undefined.Because("No last item, sequence was empty.");
    }

    public static object Items(object? value) => value switch
    {
        Undefined => new PyGenerator([]),
        PyDict dict => new PyGenerator(new DictView(dict, DictViewKind.Items).Items()),
        _ => new PyGenerator(Enumerable.Range(0, 1).Select(NotPairs)),
    };

    public static object Reverse(RenderState state, object? value)
    {
        if (value is PyString text)
        {
            return PyAccess.Slice(state, text, new PySlice(null, null, -1L));
        }

        if (!PyConvert.IsIterable(value))
        {
            throw TemplateFailure.Runtime("argument must be iterable");
        }

        var items = PyConvert.ToList(state, value);
        items.Reverse();
        return value switch
        {
            PyList => new PyGenerator(items, "list_reverseiterator"),
            PyGenerator or LoopContext or Undefined => new PyList(items),
            PyRange => new PyGenerator(items, "range_iterator"),
            PyDict => new PyGenerator(items, "dict_reversekeyiterator"),
            _ => new PyGenerator(items, "reversed"),
        };
    }

    public static object Sort(RenderState state, object?[] arguments)
    {
        var getters = AttributeGetter.AllOf(Filters.Or(arguments[3], null), !Filters.IsOn(arguments[2]));
        return new PyList([.. PySort.Sorted(
            PyConvert.Iterate(state, arguments[0]),
            item => new PyList([.. getters.Select(getter => getter.Get(state, item))]),
            Filters.IsOn(arguments[1]))]);
    }

    public static object DictSort(RenderState state, object?[] arguments)
    {
        var by = Filters.Or(arguments[2], PyString.Of("key")) is PyString text ? text.Value : null;
        if (by is not ("key" or "value"))
        {
            throw TemplateFailure.Runtime("You can only sort by either \"key\" or \"value\"");
        }

        if (arguments[0] is not PyDict dict)
        {
            throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(arguments[0]))} object has no attribute 'items'");
        }

        state.Step(dict.Count);
        var key = AttributeGetter.Of(null, null, !Filters.IsOn(arguments[1]));
        return new PyList([.. PySort.Sorted(
            dict.Entries,
            entry => key.Get(state, by == "key" ? entry.Key : entry.Value),
            Filters.IsOn(arguments[3])).Select(entry => new PyTuple([entry.Key, entry.Value]))]);
    }

    public static object? Extreme(RenderState state, object?[] arguments, bool isMax)
    {
        var getter = AttributeGetter.Of(Filters.Or(arguments[2], null), null, !Filters.IsOn(arguments[1]));
        object? best = Missing.Value;
        object? bestKey = null;
        foreach (var item in PyConvert.Iterate(state, arguments[0]))
        {
            var key = getter.Get(state, item);
            if (best is Missing || PyOperators.Order(isMax ? ">" : "<", key, bestKey))
            {
                (best, bestKey) = (item, key);
            }
        }

        return best is Missing ? Undefined.Because("No aggregated item, sequence was empty.") : best;
    }

    public static object? Sum(RenderState state, object? value, object? attribute, object? start)
    {
        if (start is PyString)
        {
            throw TemplateFailure.Type("sum() can't sum strings [use ''.join(seq) instead]");
        }

        var getter = AttributeGetter.Of(attribute);
        var sum = start;
        foreach (var item in PyConvert.Iterate(state, value))
        {
            sum = PyOperators.Add(state, sum, getter.Get(state, item));
        }

        return sum;
    }

    public static object Unique(RenderState state, object?[] arguments)
    {
        var getter = AttributeGetter.Of(Filters.Or(arguments[2], null), null, !Filters.IsOn(arguments[1]));
        return new PyGenerator(Distinct());

        IEnumerable<object?> Distinct()
        {
            var seen = new HashSet<object>(PyKeyComparer.Instance);
            foreach (var item in PyConvert.Iterate(state, arguments[0]))
            {
                if (seen.Add(getter.Get(state, item) ?? Missing.Value))
                {
                    yield return item;
                }
            }
        }
    }

    public static object GroupBy(RenderState state, object?[] arguments)
    {
        var usual = Filters.Or(arguments[2], null);
        var ignoresCase = !Filters.IsOn(arguments[3]);
        var key = AttributeGetter.Of(arguments[1], usual, ignoresCase);
        var grouper = AttributeGetter.Of(arguments[1], usual);
        var groups = new List<object?>();
        var members = new List<object?>();
        object? current = Missing.Value;
        foreach (var item in PySort.Sorted(PyConvert.Iterate(state, arguments[0]), item => key.Get(state, item), isReversed: false))
        {
            var itemKey = key.Get(state, item);
            if (current is Missing || !PyOperators.AreEqual(current, itemKey))
            {
                members = [];
                groups.Add(new PyTuple([grouper.Get(state, item), new PyList(members)], ["grouper", "list"]));
                current = itemKey;
            }

            members.Add(item);
        }

        return new PyList(groups);
    }

    public static object Batch(RenderState state, object? value, object? size, object? fill)
    {
        var wanted = PyConvert.ToIndex(size);
        return new PyGenerator(Batches());

        IEnumerable<object?> Batches()
        {
            var batch = new List<object?>();
            foreach (var item in PyConvert.Iterate(state, value))
            {
                if (batch.Count == wanted)
                {
                    yield return new PyList(batch);
                    batch = [];
                }

                batch.Add(item);
            }

            if (batch.Count > 0)
            {
                while (fill is not null && batch.Count < wanted)
                {
                    state.Step();
                    batch.Add(fill);
                }

                yield return new PyList(batch);
            }
        }
    }

    public static object Slice(RenderState state, object? value, object? slices, object? fill)
    {
        var wanted = PyConvert.ToIndex(slices);
        return new PyGenerator(Columns());

        IEnumerable<object?> Columns()
        {
            var items = PyConvert.ToList(state, value);
            if (wanted == 0)
            {
                throw TemplateFailure.Runtime("integer division or modulo by zero");
            }

            var (each, extra) = wanted < 0 ? (0, 0) : (items.Count / wanted, items.Count % wanted);
            var start = 0;
            for (long column = 0; column < wanted; column++)
            {
                state.Step();
                var count = (int)(each + (column < extra ? 1 : 0));
                var slice = items.GetRange(start, count);
                start += count;
                if (fill is not null && column >= extra)
                {
                    slice.Add(fill);
                }

                yield return new PyList(slice);
            }
        }
    }

    /// <summary>As a generator, the filter fails when its first item is asked for.</summary>
    private static object? NotPairs(int position) => throw TemplateFailure.Type("Can only get item pairs from a mapping.");
}
