namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python tuple; a named one where <see cref="Names"/> is given (the groups of the <c>groupby</c> filter).</summary>
internal sealed class PyTuple(object?[] items, string[]? names = null)
{
    public object?[] Items { get; } = items;

    public string[]? Names { get; } = names;
}
