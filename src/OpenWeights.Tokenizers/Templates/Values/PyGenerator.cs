namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python generator or iterator: can be gone through once, from where the last one stopped.</summary>
/// <param name="items">What it yields; evaluated as it is asked for.</param>
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
