namespace OpenWeights.Tokenizers.Templates.Values;

internal enum DictViewKind
{
    Keys,
    Values,
    Items,
}

/// <summary>Result of <c>dict.keys()</c>, <c>values()</c> or <c>items()</c>.</summary>
internal sealed class DictView(PyDict dict, DictViewKind kind)
{
    public PyDict Dict { get; } = dict;

    public DictViewKind Kind { get; } = kind;

    public IEnumerable<object?> Items()
    {
        foreach (var entry in Dict.Entries)
        {
            yield return Kind switch
            {
                DictViewKind.Keys => entry.Key,
                DictViewKind.Values => entry.Value,
                _ => new PyTuple([entry.Key, entry.Value]),
            };
        }
    }
}
