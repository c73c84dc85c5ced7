using System.Collections;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>An ordered list of rows of stores, or parts of rows: six bytes per row, or fourteen if there are parts.</summary>
internal sealed class RowSlices : IReadOnlyList<RowSlice>
{
    private readonly List<TokenStore> _stores = [];
    private readonly List<ushort> _storeOf = [];
    private readonly List<int> _rows = [];
    private List<(int Start, int Length)>? _parts;

    public int Count => _rows.Count;

    /// <summary>The stores of the rows.</summary>
    internal IReadOnlyList<TokenStore> Stores => _stores;

    public RowSlice this[int index]
    {
        get
        {
            var (store, row) = (_stores[_storeOf[index]], _rows[index]);
            var (start, length) = _parts is null ? (0, store.Entry(row).Tokens) : _parts[index];
            return new RowSlice(store, row, start, length);
        }
    }

    /// <summary>Adds a row or a part of one.</summary>
    internal void Add(RowSlice slice)
    {
        if (_parts is null && !slice.IsWhole)
        {
            _parts = [.. this.Select(static s => (0, s.Length))];
        }

        if (_stores.IndexOf(slice.Store) is not (>= 0 and var store))
        {
            store = _stores.Count;
            _stores.Add(slice.Store);
        }

        _storeOf.Add(checked((ushort)store));
        _rows.Add(slice.Row);
        _parts?.Add((slice.Start, slice.Length));
    }

    /// <summary>Removes the last rows.</summary>
    internal void CutTo(int count)
    {
        _storeOf.RemoveRange(count, _storeOf.Count - count);
        _rows.RemoveRange(count, _rows.Count - count);
        _parts?.RemoveRange(count, _parts.Count - count);
    }

    /// <summary>The rows that satisfy a condition; a pair is kept or left by its chosen answer.</summary>
    internal RowSlices Where(Func<RowSlice, bool> holds)
    {
        var (kept, isKept) = (new RowSlices(), false);
        foreach (var slice in this)
        {
            isKept = slice.Role == RowRole.Rejected ? isKept : holds(slice);
            if (isKept)
            {
                kept.Add(slice);
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
/// <param name="Row">Index of the row in the store.</param>
/// <param name="Start">First token of the part.</param>
/// <param name="Length">Number of tokens of the part.</param>
internal readonly record struct RowSlice(TokenStore Store, int Row, int Start, int Length)
{
    /// <summary>Whether it is the whole row.</summary>
    internal bool IsWhole => Length == Store.Entry(Row).Tokens;

    /// <summary>What the row is used for.</summary>
    internal RowRole Role => Store.Entry(Row).Role;

    /// <summary>Number of target tokens.</summary>
    internal int Targets => Store.Targets(Row, Start, Length);

    /// <summary>A hash, equal for parts with the same tokens and labels.</summary>
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

    /// <summary>The part as the model sees it.</summary>
    internal TokenRow Read() => Store.Row(Row, Start, Length);
}
