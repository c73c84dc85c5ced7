namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python list. Templates cannot change one: the sandbox is immutable.</summary>
internal sealed class PyList(List<object?> items)
{
    public List<object?> Items { get; } = items;
}

/// <summary>A Python tuple; a named one where <see cref="Names"/> is given (the groups of the <c>groupby</c> filter).</summary>
internal sealed class PyTuple(object?[] items, string[]? names = null)
{
    public object?[] Items { get; } = items;

    public string[]? Names { get; } = names;
}

/// <summary>The <c>start:stop:step</c> of a subscription; each may be None.</summary>
internal sealed record PySlice(object? Start, object? Stop, object? Step);

/// <summary>jinja2's <c>namespace()</c>: the one thing a template can change from inside a loop.</summary>
internal sealed class PyNamespace(PyDict attributes)
{
    public PyDict Attributes { get; } = attributes;
}

/// <summary>A Python generator or iterator: can be gone through once, from where the last one stopped.</summary>
/// <param name="items">The items, evaluated lazily.</param>
/// <param name="typeName">Python's name of the type.</param>
internal sealed class PyGenerator(IEnumerable<object?> items, string typeName = "generator")
{
    private readonly IEnumerator<object?> enumerator = items.GetEnumerator();

    public string TypeName { get; } = typeName;

    /// <summary>The items that are left.</summary>
    public IEnumerable<object?> Rest()
    {
        while (enumerator.MoveNext())
        {
            yield return enumerator.Current;
        }
    }
}

/// <summary>Stands for "no value at all": a variable that was never set, an argument that was not passed.</summary>
internal sealed class Missing
{
    public static readonly Missing Value = new();

    private Missing()
    {
    }
}
