using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Data;

/// <summary>Files to token rows: read, tokenised, checked, cut or dropped as the config says, and packed.</summary>
public sealed class DataSet
{
    private DataSet(IReadOnlyList<TokenRow> rows, DataReport report)
    {
        Rows = rows;
        Report = report;
    }

    /// <summary>The rows as the model will read them.</summary>
    public IReadOnlyList<TokenRow> Rows { get; }

    /// <summary>What became of the files' rows.</summary>
    public DataReport Report { get; }

    /// <summary>Reads data sets.</summary>
    /// <param name="sources">The files.</param>
    /// <param name="config">Length, packing and what is trained.</param>
    /// <param name="tokenizer">Makes token rows of texts.</param>
    /// <param name="vocabularySize">The number of tokens that the model knows.</param>
    /// <param name="pack">Whether rows are packed where the config says so.</param>
    /// <exception cref="InvalidDataException">A row is wrong, has nothing to train, or is too long where that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static DataSet Read(IReadOnlyList<DataSource> sources, DataSection config, RowTokenizer tokenizer, int vocabularySize, bool pack)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(config);
        var (rows, formats) = (new List<TokenRow>(), new List<string>());
        foreach (var source in sources)
        {
            IRowFormat? format = null;
            foreach (var row in DataFile.Read(source.Path).Take(source.Limit ?? int.MaxValue))
            {
                format ??= RowFormats.Find(source.Format, row);
                rows.Add(Checked(format.Read(row, tokenizer), vocabularySize));
            }

            formats.Add($"{source.Path}: {format?.Name ?? throw new InvalidDataException($"{source.Path}: there is no row in this file.")}");
        }

        var report = new DataReport { Rows = rows.Count, Longest = rows.Max(static r => r.Ids.Length), Formats = formats };
        rows = Limit(rows, config, ref report);
        RequireTargets(rows);
        IReadOnlyList<TokenRow> packed = pack && config.Packing ? Packer.Pack(rows, config.MaxLength) : rows;
        report = report with
        {
            Tokens = rows.Sum(static r => (long)r.Ids.Length),
            TargetTokens = rows.Sum(static r => (long)r.CountTargets()),
            PackedRows = packed.Count,
            Efficiency = pack && config.Packing ? rows.Sum(static r => (double)r.Ids.Length) / ((double)packed.Count * config.MaxLength) : 1,
        };
        return new DataSet(packed, report);
    }

    private static TokenRow Checked(TokenRow row, int vocabularySize)
    {
        var bad = Array.FindIndex(row.Ids, id => id < 0 || id >= vocabularySize);
        if (bad >= 0)
        {
            throw new InvalidDataException($"{row.Source}: token id {row.Ids[bad]} at place {bad} is not one of the model's {vocabularySize} tokens; do tokenizer and model belong together?");
        }

        bad = Array.FindIndex(row.Labels, id => id >= vocabularySize);
        return bad < 0 ? row : throw new InvalidDataException($"{row.Source}: label {row.Labels[bad]} at place {bad} is not one of the model's {vocabularySize} tokens.");
    }

    private static List<TokenRow> Limit(List<TokenRow> rows, DataSection config, ref DataReport report)
    {
        var tooLong = rows.Where(r => r.Ids.Length > config.MaxLength).OrderByDescending(static r => r.Ids.Length).ToList();
        switch (config.OverLength)
        {
            case "drop":
                report = report with { Dropped = tooLong.Count };
                return tooLong.Count < rows.Count
                    ? [.. rows.Where(r => r.Ids.Length <= config.MaxLength)]
                    : throw new InvalidDataException($"all {rows.Count} rows are longer than data.max_length ({config.MaxLength}) and would be dropped; raise it or set data.over_length to truncate.");
            case "truncate":
                report = report with { Truncated = tooLong.Count, TruncatedTokens = tooLong.Sum(r => (long)r.Ids.Length - config.MaxLength) };
                return [.. rows.Select(r => r.Ids.Length <= config.MaxLength ? r : new TokenRow(r.Ids[..config.MaxLength], r.Labels[..config.MaxLength], r.Source))];
            default:
                return tooLong.Count == 0 ? rows : throw new InvalidDataException(
                    $"{tooLong.Count} of {rows.Count} rows are longer than data.max_length ({config.MaxLength} tokens): {string.Join(", ", tooLong.Take(5).Select(static r => $"{r.Source} ({r.Ids.Length})"))}"
                    + $"{(tooLong.Count > 5 ? ", ..." : "")}. Raise data.max_length, or set data.over_length to drop or truncate.");
        }
    }

    private static void RequireTargets(List<TokenRow> rows)
    {
        var empty = rows.Where(static r => r.CountTargets() == 0).ToList();
        if (empty.Count > 0)
        {
            throw new InvalidDataException(
                $"{empty.Count} of {rows.Count} rows have no token to train: {string.Join(", ", empty.Take(5).Select(static r => r.Source))}{(empty.Count > 5 ? ", ..." : "")}. "
                + "Is there an answer in each, and does data.train_on name it? (Truncating may have cut it away.)");
        }
    }
}
