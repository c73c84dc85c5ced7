using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Where the tokens of pairs are when each pair is one row: the common beginning, the rest of the first, the rest of the second.</summary>
internal sealed class PairLayout
{
    private readonly IReadOnlyList<TokenRow> _rows;
    private readonly int[] _shared;

    /// <summary>Finds what each pair of consecutive rows begins with; at least the last token of each is its own.</summary>
    /// <param name="rows">The rows.</param>
    internal PairLayout(IReadOnlyList<TokenRow> rows)
    {
        _rows = rows;
        _shared = [.. Enumerable.Range(0, rows.Count / 2).Select(p => Common(rows[2 * p].Ids, rows[(2 * p) + 1].Ids))];
        Width = _shared.Select((shared, p) => rows[2 * p].Ids.Length + rows[(2 * p) + 1].Ids.Length - shared).Max();
    }

    /// <summary>Length of the longest row of a pair.</summary>
    internal int Width { get; }

    /// <summary>Tokens of all rows of pairs, with padding.</summary>
    internal long Tokens => (long)Width * _shared.Length;

    /// <summary>Number of tokens that a row shares with its partner.</summary>
    internal int Shared(int row) => _shared[row / 2];

    /// <summary>Place of a row's token in the flattened batch.</summary>
    internal long Place(int row, int token) =>
        ((long)row / 2 * Width) + token + (row % 2 == 1 && token >= _shared[row / 2] ? _rows[row - 1].Ids.Length - _shared[row / 2] : 0);

    private static int Common(int[] first, int[] second)
    {
        var most = Math.Min(first.Length, second.Length) - 1;
        return Math.Min(most, first.AsSpan().CommonPrefixLength(second));
    }
}
