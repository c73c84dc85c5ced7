using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data;

/// <summary>Rows of an epoch, packed or not, with the data report.</summary>
internal sealed class DataSet
{
    private readonly RowSlices _slices;

    internal DataSet(RowSlices slices, int? packInto, DataReport report)
    {
        _slices = slices;
        var bins = packInto is { } length ? Packer.Bins([.. slices.Select(static s => s.Length)], length) : null;
        Rows = new RowList(slices, bins);
        Documents = new RowList(slices, null);
        var tokens = slices.Sum(static s => (long)s.Length);
        Report = report with
        {
            Used = slices.Count,
            Tokens = tokens,
            TargetTokens = slices.Sum(static s => (long)s.Targets),
            IsPacked = bins is not null,
            PackedRows = Rows.Count,
            FewestPackedRows = packInto is { } most ? (int)((tokens + most - 1) / most) : Rows.Count,
            Efficiency = packInto is { } room ? tokens / ((double)Rows.Count * room) : 1,
        };
    }

    /// <summary>The rows as the model sees them.</summary>
    public RowList Rows { get; }

    /// <summary>The rows before packing.</summary>
    public RowList Documents { get; }

    /// <summary>Places of the rows used as a whole, in order; a repeated row occurs as often.</summary>
    internal IEnumerable<string> WholePlaces => _slices.Where(static s => s.IsWhole).Select(static s => s.Store.Place(s.Row));

    /// <summary>Number of rows with a role.</summary>
    /// <param name="role">The role.</param>
    public long CountOf(RowRole role) => _slices.LongCount(s => s.Role == role);

    /// <summary>Longest row, in tokens.</summary>
    public int LongestRow => Enumerable.Range(0, Rows.Count).Max(Rows.LengthOf);

    /// <summary>The data report.</summary>
    public DataReport Report { get; }

    /// <summary>The same rows, not packed.</summary>
    internal DataSet Unpacked() => new(_slices, null, Report);
}
