using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>Files to token rows: read, tokenised, checked, cut or dropped as the config says, and packed.</summary>
public sealed class DataSet
{
    private readonly IReadOnlyList<RowSlice> _views;

    internal DataSet(IReadOnlyList<RowSlice> views, int? packInto, DataReport report)
    {
        _views = views;
        var bins = packInto is { } length ? Packer.Bins([.. views.Select(static v => v.Length)], length) : null;
        Rows = new RowList(views, bins);
        Documents = new RowList(views, null);
        var tokens = views.Sum(static v => (long)v.Length);
        Report = report with
        {
            Used = views.Count,
            Tokens = tokens,
            TargetTokens = views.Sum(static v => (long)v.Targets),
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
    internal IEnumerable<string> WholePlaces => _views.Where(static v => v.IsWhole).Select(static v => v.Store.Place(v.Row));

    /// <summary>The longest of the rows, in tokens.</summary>
    public int LongestRow => Enumerable.Range(0, Rows.Count).Max(Rows.LengthOf);

    /// <summary>What became of the files' rows.</summary>
    public DataReport Report { get; }

    /// <summary>The same rows, none packed.</summary>
    internal DataSet Unpacked() => new(_views, null, Report);

    /// <summary>Reads data sets.</summary>
    /// <param name="sources">The files.</param>
    /// <param name="config">Length, packing and what is trained.</param>
    /// <param name="tokenizer">Makes token rows of texts.</param>
    /// <param name="vocabularySize">The number of tokens that the model knows.</param>
    /// <param name="pack">Whether rows are packed where the config says so.</param>
    /// <param name="room">How long a text the model may be given; null for any.</param>
    /// <param name="words">What settings are called in messages; null for the names of the YAML file.</param>
    /// <exception cref="ConfigException">A setting is wrong.</exception>
    /// <exception cref="InvalidDataException">A row is wrong, has nothing to train, or is too long where that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static DataSet Read(
        IReadOnlyList<DataSource> sources, DataSection config, RowTokenizer tokenizer, int vocabularySize, bool pack, ContextLimit? room = null, SettingNames? words = null)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(config);
        SettingCheck.Require(config);
        var read = SourceRows.Read(sources, config, new StoreCache(config, tokenizer, vocabularySize), preferences: false, room, words);
        return new DataSet(read.Weighted(0), pack && config.Packs ? config.MaxLength : null, read.Report);
    }
}
