using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data;

/// <summary>Rows of an epoch, packed or as they are, and what became of the files' rows.</summary>
public sealed class DataSet
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

    /// <summary>The rows as the model will read them.</summary>
    public RowList Rows { get; }

    /// <summary>The rows before they are packed.</summary>
    public RowList Documents { get; }

    /// <summary>Where the rows stand that are used whole, in their order; a row that comes several times has its place as often.</summary>
    internal IEnumerable<string> WholePlaces => _slices.Where(static s => s.IsWhole).Select(static s => s.Store.Place(s.Row));

    /// <summary>The longest of the rows, in tokens.</summary>
    public int LongestRow => Enumerable.Range(0, Rows.Count).Max(Rows.LengthOf);

    /// <summary>What became of the files' rows.</summary>
    public DataReport Report { get; }

    /// <summary>The same rows, none packed.</summary>
    internal DataSet Unpacked() => new(_slices, null, Report);
}
