namespace OpenWeights.Tune.Data;

/// <summary>Rows that are made when they are asked for, and whose lengths are known without that.</summary>
public interface IRowList : IReadOnlyList<TokenRow>
{
    /// <summary>The tokens of a row.</summary>
    int LengthOf(int row);

    /// <summary>The tokens of a row of any list.</summary>
    static int LengthOf(IReadOnlyList<TokenRow> rows, int row)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return rows is IRowList list ? list.LengthOf(row) : rows[row].Ids.Length;
    }
}
