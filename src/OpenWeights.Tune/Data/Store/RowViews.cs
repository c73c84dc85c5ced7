using System.Collections;

namespace OpenWeights.Tune.Data.Store;

/// <summary>Rows of one store, or parts of them, in an order: four bytes a row, and twelve once one is a part.</summary>
/// <param name="store">The store.</param>
internal sealed class RowViews(TokenStore store) : IReadOnlyList<RowView>
{
    private readonly List<int> _rows = [];
    private List<(int Start, int Length)>? _parts;

    public int Count => _rows.Count;

    public RowView this[int index]
    {
        get
        {
            var row = _rows[index];
            return _parts is null ? new RowView(store, row, 0, store.Entry(row).Tokens) : new RowView(store, row, _parts[index].Start, _parts[index].Length);
        }
    }

    /// <summary>Whether two rows stand together, the answer that was chosen and the one that was rejected.</summary>
    internal bool IsPair(int index) => store.Entry(_rows[index]).Role == RowRole.Chosen;

    /// <summary>Adds a row or a part of one.</summary>
    internal void Add(RowView view)
    {
        if (_parts is null && !view.IsWhole)
        {
            _parts = [.. _rows.Select(r => (0, store.Entry(r).Tokens))];
        }

        _rows.Add(view.Row);
        _parts?.Add((view.Start, view.Length));
    }

    /// <summary>Takes the last rows away.</summary>
    internal void CutTo(int count)
    {
        _rows.RemoveRange(count, _rows.Count - count);
        _parts?.RemoveRange(count, _parts.Count - count);
    }

    /// <summary>The rows of which something holds.</summary>
    internal RowViews Where(Func<RowView, bool> holds)
    {
        var kept = new RowViews(store);
        foreach (var view in this)
        {
            if (holds(view))
            {
                kept.Add(view);
            }
        }

        return kept;
    }

    public IEnumerator<RowView> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
