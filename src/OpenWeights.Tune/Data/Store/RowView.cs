namespace OpenWeights.Tune.Data.Store;

/// <summary>A row of a store, or a part of it.</summary>
/// <param name="Store">The store.</param>
/// <param name="Row">The row's number in the store.</param>
/// <param name="Start">The first token of the part.</param>
/// <param name="Length">The tokens of the part.</param>
internal readonly record struct RowView(TokenStore Store, int Row, int Start, int Length)
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
