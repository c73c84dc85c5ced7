using System.Collections;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Rows that are loaded on access, packed or not; their lengths are known without loading.</summary>
internal sealed class RowList : IReadOnlyList<TokenRow>
{
    private readonly RowSlices _slices;
    private readonly int[][]? _bins;

    // The slices that share a packed row, or null if nothing is packed.
    internal RowList(RowSlices slices, int[][]? bins) => (_slices, _bins) = (slices, bins);

    /// <inheritdoc/>
    public int Count => _bins?.Length ?? _slices.Count;

    /// <inheritdoc/>
    public TokenRow this[int index] => _bins is null ? _slices[index].Read() : Packer.Join([.. _bins[index].Select(i => _slices[i].Read())]);

    /// <summary>Number of tokens of a row of any list.</summary>
    public static int LengthOf(IReadOnlyList<TokenRow> rows, int row)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return rows is RowList list ? list.LengthOf(row) : rows[row].Ids.Length;
    }

    /// <summary>Number of tokens of a row.</summary>
    public int LengthOf(int row) => _bins is null ? _slices[row].Length : _bins[row].Sum(i => _slices[i].Length);

    /// <inheritdoc/>
    public IEnumerator<TokenRow> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
