using System.Diagnostics.CodeAnalysis;

using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python dict: in order of insertion, with keys equal as Python's are (<c>1 == 1.0 == True</c>).</summary>
internal sealed class PyDict
{
    private const int SmallSize = 8;

    private readonly List<KeyValuePair<object?, object?>> entries = [];
    private Dictionary<object, int>? index;

    /// <summary>The message of the input that this is: its index + 1; 0 for any other dict.</summary>
    public int Turn { get; init; }

    public int Count => entries.Count;

    public IReadOnlyList<KeyValuePair<object?, object?>> Entries => entries;

    /// <summary>Sets a key; a key that is there keeps its place.</summary>
    /// <exception cref="TemplateFailure">The key cannot be hashed.</exception>
    public void Set(object? key, object? value)
    {
        var at = Find(key);
        if (at >= 0)
        {
            entries[at] = new(entries[at].Key, value);
            return;
        }

        entries.Add(new(key, value));
        if (index is not null)
        {
            index.Add(key ?? Missing.Value, entries.Count - 1);
        }
        else if (entries.Count > SmallSize)
        {
            index = new(PyKeyComparer.Instance);
            for (var i = 0; i < entries.Count; i++)
            {
                index.Add(entries[i].Key ?? Missing.Value, i);
            }
        }
    }

    /// <exception cref="TemplateFailure">The key cannot be hashed.</exception>
    public bool TryGet(object? key, out object? value)
    {
        var at = Find(key);
        value = at < 0 ? null : entries[at].Value;
        return at >= 0;
    }

    public bool TryGet(string key, [MaybeNullWhen(false)] out object? value)
    {
        if (index is not null)
        {
            return TryGet((object)PyString.Of(key), out value);
        }

        foreach (var entry in entries)
        {
            if (entry.Key is PyString s && s.Value == key)
            {
                value = entry.Value;
                return true;
            }
        }

        value = null;
        return false;
    }

    private int Find(object? key)
    {
        if (index is not null)
        {
            return index.TryGetValue(key ?? Missing.Value, out var at) ? at : -1;
        }

        _ = PyKeyComparer.Hash(key);
        for (var i = 0; i < entries.Count; i++)
        {
            if (PyOperators.AreEqual(entries[i].Key, key))
            {
                return i;
            }
        }

        return -1;
    }
}
