using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>The rows of data sets within the limits, each data set's for itself: what a run's rows are chosen from.</summary>
internal sealed class SourceRows
{
    private readonly IReadOnlyList<(DataSource Source, RowSlices Rows)> _sources;

    private SourceRows(IReadOnlyList<(DataSource Source, RowSlices Rows)> sources, DataReport report)
    {
        _sources = sources;
        Report = report with { Duplicates = CountDuplicates([.. Hashes]) };
    }

    /// <summary>What became of the files' rows so far.</summary>
    internal DataReport Report { get; init; }

    /// <summary>Whether the rows are preferences.</summary>
    internal bool ArePreferences => _sources.Any(static s => s.Rows.Count > 0 && s.Rows[0].Store.Entry(s.Rows[0].Row).Role != RowRole.Plain);

    /// <summary>The hashes of all rows.</summary>
    internal IEnumerable<ulong> Hashes => _sources.SelectMany(static s => s.Rows).Select(static r => r.Hash);

    /// <summary>Reads data sets.</summary>
    /// <exception cref="InvalidDataException">A row is wrong, has nothing to train, or is too long where that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    internal static SourceRows Read(IReadOnlyList<DataSource> sources, DataSection config, StoreCache cache, bool preferences, ContextLimit? room = null, SettingNames? words = null)
    {
        var (read, stores, cached, limit) = (new List<(DataSource, RowSlices)>(), new List<TokenStore>(), new List<string>(), new LengthLimit(config, room, words ?? SettingNames.OfConfig));
        foreach (var source in sources)
        {
            var (store, where) = cache.Get(source);
            if (!preferences)
            {
                RequirePlain(store, words ?? SettingNames.OfConfig);
            }

            stores.Add(store);
            cached.AddRange(where is null ? [] : [where]);
            read.Add((source, limit.Apply(store)));
        }

        limit.Require();
        return new SourceRows(read, new DataReport
        {
            Files = [.. stores.SelectMany(static s => s.Facts.Files).Select(static f => new SourceReport(f.Path, f.Format, f.Rows))],
            Rows = stores.Sum(static s => s.Count),
            BadRows = stores.Sum(static s => s.Facts.BadRows),
            BadExamples = [.. stores.SelectMany(static s => s.Facts.BadExamples).Take(5)],
            RowLimit = limit.Longest,
            Dropped = limit.Dropped,
            Truncated = limit.Truncated,
            TruncatedTokens = limit.TruncatedTokens,
            Split = limit.Split,
            Untrained = limit.Untrained,
            Longest = stores.Max(static s => Enumerable.Range(0, s.Count).Max(i => s.Entry(i).Tokens)),
            Cached = cached,
            Warnings = [.. stores.SelectMany(static s => s.Facts.Warnings).Distinct()],
        });
    }

    /// <summary>The rows of an epoch: each data set's as often as its weight and repeat say, evenly mixed.</summary>
    /// <exception cref="InvalidDataException">The weights leave no row.</exception>
    internal IReadOnlyList<RowSlice> Weighted(long seed) =>
        InterleavedRows.Weighted(_sources, seed) is { Count: > 0 } rows ? rows : throw new InvalidDataException("the weights of data.train leave no row; raise them.");

    /// <summary>Divides the rows in two by their hashes, so that rows that are the same stay together.</summary>
    /// <param name="fraction">The share of the rows that the second part has at least.</param>
    /// <param name="seed">Which rows it has depends on the seed and on the rows, not on their order.</param>
    /// <exception cref="InvalidDataException">There are too few different rows.</exception>
    internal (SourceRows Train, IReadOnlyList<RowSlice> Eval) Split(double fraction, long seed)
    {
        var draws = Hashes.Select(h => RowHash.Mix(h, seed)).ToArray();
        Array.Sort(draws);
        var last = draws[Math.Max(1, (int)Math.Round(fraction * draws.Length)) - 1];
        if (draws[^1] <= last)
        {
            throw new InvalidDataException($"data.eval_fraction leaves nothing to train on: there are {draws.Length} rows, and too few of them differ. Lower it, or give data.eval files.");
        }

        bool IsEval(RowSlice row) => RowHash.Mix(row.Hash, seed) <= last;
        var train = _sources.Select(s => (s.Source, s.Rows.Where(r => !IsEval(r)))).ToList();
        return (new SourceRows(train, Report) { Report = Report }, InterleavedRows.InTurn([.. _sources.Select(s => s.Rows.Where(IsEval))]));
    }

    private static void RequirePlain(TokenStore store, SettingNames words)
    {
        for (var i = 0; i < store.Count; i++)
        {
            if (store.Entry(i).Role != RowRole.Plain)
            {
                throw new InvalidDataException(
                    $"{store.Place(i)}: this row is a preference (a chosen and a rejected answer, or an answer with a label), and the objective sft learns one answer. "
                    + (words["data.train.fields"] is "--field"
                        ? "Name the good answer, such as --field prompt=prompt --field completion=chosen."
                        : "Name the good answer in the data set's fields, such as `fields: { prompt: prompt, completion: chosen }` or `fields: { messages: chosen }`."));
            }
        }
    }

    private static int CountDuplicates(ulong[] hashes)
    {
        Array.Sort(hashes);
        var count = 0;
        for (var i = 1; i < hashes.Length; i++)
        {
            count += hashes[i] == hashes[i - 1] ? 1 : 0;
        }

        return count;
    }
}
