using System.Collections;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Rows of one store, or parts of them, in an order: four bytes a row, and twelve once one is a part.</summary>
/// <param name="store">The store.</param>
internal sealed class RowSlices(TokenStore store) : IReadOnlyList<RowSlice>
{
    private readonly List<int> _rows = [];
    private List<(int Start, int Length)>? _parts;

    public int Count => _rows.Count;

    public RowSlice this[int index]
    {
        get
        {
            var row = _rows[index];
            return _parts is null ? new RowSlice(store, row, 0, store.Entry(row).Tokens) : new RowSlice(store, row, _parts[index].Start, _parts[index].Length);
        }
    }

    /// <summary>Whether two rows stand together, the answer that was chosen and the one that was rejected.</summary>
    internal bool IsPair(int index) => store.Entry(_rows[index]).Role == RowRole.Chosen;

    /// <summary>Adds a row or a part of one.</summary>
    internal void Add(RowSlice view)
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
    internal RowSlices Where(Func<RowSlice, bool> holds)
    {
        var kept = new RowSlices(store);
        foreach (var view in this)
        {
            if (holds(view))
            {
                kept.Add(view);
            }
        }

        return kept;
    }

    public IEnumerator<RowSlice> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>A row of a store, or a part of it.</summary>
/// <param name="Store">The store.</param>
/// <param name="Row">The row's number in the store.</param>
/// <param name="Start">The first token of the part.</param>
/// <param name="Length">The tokens of the part.</param>
internal readonly record struct RowSlice(TokenStore Store, int Row, int Start, int Length)
{
    /// <summary>Whether it is the whole row.</summary>
    internal bool IsWhole => Length == Store.Entry(Row).Tokens;

    /// <summary>The number of tokens that are predicted.</summary>
    internal int Targets => Store.Targets(Row, Start, Length);

    /// <summary>A hash: parts with the same tokens and labels have the same.</summary>
    internal ulong Hash
    {
        get
        {
            if (IsWhole)
            {
                return Store.Entry(Row).Hash;
            }

            var row = Read();
            return RowHash.Of(row.Ids, row.Labels);
        }
    }

    /// <summary>The part as the model reads it.</summary>
    internal TokenRow Read() => Store.Row(Row, Start, Length);
}
