namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python list. Templates cannot change one: the sandbox is immutable.</summary>
internal sealed class PyList(List<object?> items)
{
    public List<object?> Items { get; } = items;
}
