using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>
/// The <c>loop</c> variable: iterates over the items and exposes the position. It reads one item ahead, and only if needed.
/// </summary>
internal sealed class LoopContext : IPyCallable
{
    private readonly RenderState state;
    private readonly object? iterable;
    private readonly Func<object?, int, PyString>? recurse;
    private readonly int depth0;
    private IEnumerator<object?> items;
    private object? after = Missing.Value;
    private object? current = Missing.Value;
    private object? before = Missing.Value;
    private object?[]? lastChanged;
    private long? length;

    /// <param name="state">The render.</param>
    /// <param name="iterable">The iterated value.</param>
    /// <param name="items">Its items.</param>
    /// <param name="recurse">Renders the loop's body for other items, one level deeper; null unless the loop is recursive.</param>
    /// <param name="depth0">How deep the loop recurses, from 0.</param>
    public LoopContext(RenderState state, object? iterable, IEnumerator<object?> items, Func<object?, int, PyString>? recurse, int depth0)
    {
        this.state = state;
        this.iterable = iterable;
        this.items = items;
        this.recurse = recurse;
        this.depth0 = depth0;
    }

    /// <summary>The number of the iteration, from 0.</summary>
    public long Index0 { get; private set; } = -1;

    /// <summary>The number of items; an iterator is read to its end to know it.</summary>
    public long Length
    {
        get
        {
            if (length is null)
            {
                length = PyConvert.TryLength(iterable);
                if (length is null)
                {
                    var rest = new List<object?>();
                    while (items.MoveNext())
                    {
                        rest.Add(items.Current);
                    }

                    items = rest.GetEnumerator();
                    length = rest.Count + Index0 + 1 + (ReferenceEquals(after, Missing.Value) ? 0 : 1);
                }
            }

            return length.Value;
        }
    }

    /// <summary>Goes to the next item, if there is one.</summary>
    public bool Next(out object? item)
    {
        item = Peek();
        if (ReferenceEquals(item, Missing.Value))
        {
            return false;
        }

        after = Missing.Value;
        Index0++;
        before = current;
        current = item;
        return true;
    }

    /// <summary>The items that are left, each with the loop itself, as iterating over <c>loop</c> yields them.</summary>
    public IEnumerable<object?> Rest()
    {
        while (Next(out var item))
        {
            yield return new PyTuple([item, this]);
        }
    }

    public object? Attribute(string name) => name switch
    {
        "index" => Index0 + 1,
        "index0" => Index0,
        "first" => Index0 == 0,
        "last" => ReferenceEquals(Peek(), Missing.Value),
        "length" => Length,
        "revindex" => Length - Index0,
        "revindex0" => Length - Index0 - 1,
        "previtem" => Index0 == 0 ? Undefined.Because("there is no previous item") : before,
        "nextitem" => ReferenceEquals(Peek(), Missing.Value) ? Undefined.Because("there is no next item") : after,
        "depth" => (long)depth0 + 1,
        "depth0" => (long)depth0,
        "cycle" => new BuiltinFunction("cycle", "method", (_, arguments) => Cycle(arguments)),
        "changed" => new BuiltinFunction("changed", "method", (_, arguments) => Changed(arguments)),
        _ => Missing.Value,
    };

    public object? Call(RenderState state, Arguments arguments)
    {
        if (recurse is null)
        {
            throw TemplateFailure.Type("The loop must have the 'recursive' marker to be called recursively.");
        }

        return recurse(new Signature("loop", 1, "iterable").Fit(arguments)[0], depth0 + 1);
    }

    private object? Peek()
    {
        if (ReferenceEquals(after, Missing.Value) && items.MoveNext())
        {
            after = items.Current;
        }

        return after;
    }

    private object? Cycle(Arguments arguments) => arguments.Positional.Length == 0
        ? throw TemplateFailure.Type("no items for cycling given")
        : arguments.Positional[Index0 % arguments.Positional.Length];

    private object Changed(Arguments arguments)
    {
        state.Step();
        if (lastChanged is not null && PyOperators.AreEqual(new PyTuple(lastChanged), new PyTuple(arguments.Positional)))
        {
            return false;
        }

        lastChanged = arguments.Positional;
        return true;
    }
}
