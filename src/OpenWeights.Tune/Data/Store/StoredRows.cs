using System.Collections;

namespace OpenWeights.Tune.Data.Store;

/// <summary>Rows of stores, packed or as they are.</summary>
/// <param name="views">The rows.</param>
/// <param name="bins">Which of them share a row of the list, or null where each has its own.</param>
internal sealed class StoredRows(IReadOnlyList<RowView> views, int[][]? bins) : IRowList
{
    public int Count => bins?.Length ?? views.Count;

    public TokenRow this[int index] => bins is null ? views[index].Read() : Packer.Join([.. bins[index].Select(i => views[i].Read())]);

    public int LengthOf(int row) => bins is null ? views[row].Length : bins[row].Sum(i => views[i].Length);

    public IEnumerator<TokenRow> GetEnumerator()
    {
        for (var i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
