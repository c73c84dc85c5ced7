using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>The rows of a run: what it trains on and what it evaluates on. <see cref="Read"/> is the way from files to rows.</summary>
/// <param name="Train">The rows to train on.</param>
/// <param name="Eval">The rows to evaluate on, never packed; null where there are none.</param>
public sealed record RunData(DataSet Train, DataSet? Eval)
{
    /// <summary>What whoever runs this should be told before it runs.</summary>
    public IEnumerable<string> Warnings
    {
        get
        {
            foreach (var warning in Train.Report.Warnings.Union(Eval?.Report.Warnings ?? []))
            {
                yield return warning;
            }

            if (Eval is { Report.Leaked: > 0 and var leaked })
            {
                yield return $"{leaked} of the {Eval.Report.Rows} rows of data.eval are also among the rows to train on; what is measured on them says little.";
            }
        }
    }

    /// <summary>Reads and checks all rows: tokenised or taken from the cache, held to the limits, held back for evaluation, mixed, and packed.</summary>
    /// <param name="config">The data section.</param>
    /// <param name="tokenizer">Makes token rows of texts.</param>
    /// <param name="vocabularySize">The number of tokens that the model knows.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="preferences">Whether rows with preferences are wanted too; they are neither packed nor divided.</param>
    /// <param name="room">How long a text the model may be given; null for any.</param>
    /// <param name="words">What settings are called in messages; null for the names of the YAML file.</param>
    /// <exception cref="ConfigException">A setting is wrong.</exception>
    /// <exception cref="InvalidDataException">A row is wrong, has nothing to train, or is too long where that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static RunData Read(DataSection config, RowTokenizer tokenizer, int vocabularySize, long seed, bool preferences = false, ContextLimit? room = null, SettingNames? words = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        SettingCheck.Require(config);
        var cache = new StoreCache(config, tokenizer, vocabularySize);
        (List<RowSlices> Sets, DataReport Report) OfFiles(IReadOnlyList<DataSource> sources) => Limited([.. sources.Select(cache.Get)], config, preferences, room, words ?? SettingNames.OfConfig);
        var (sets, report) = OfFiles(config.Train);
        var arePreferences = sets.Any(static s => s.Count > 0 && s[0].Role != RowRole.Plain);
        DataSet Trained(IReadOnlyList<RowSlices> rows) => new(Mixed(config.Train, rows, seed), config.Packs && !arePreferences ? config.MaxLength : null, report);
        if (config.EvalFraction > 0 && !arePreferences)
        {
            var isHeld = HeldBack(sets, config.EvalFraction, seed);
            var held = Interleaving.InTurn([.. sets.Select(s => s.Where(isHeld))]);
            var heldReport = report with { Rows = held.Count, Duplicates = 0, Dropped = 0, Truncated = 0, TruncatedTokens = 0, Split = 0, Untrained = 0, BadRows = 0, Cached = [] };
            return new RunData(Trained([.. sets.Select(s => s.Where(r => !isHeld(r)))]), new DataSet(held, null, heldReport));
        }

        var train = Trained(sets);
        if (config.Eval.Count == 0)
        {
            return new RunData(train, null);
        }

        var (eval, evalReport) = OfFiles(config.Eval);
        ulong[] known = [.. Hashes(sets)];
        Array.Sort(known);
        return new RunData(train, new DataSet(Mixed(config.Eval, eval, seed), null, evalReport with { Leaked = Hashes(eval).Count(h => Array.BinarySearch(known, h) >= 0) }));
    }

    // The rows of each data set that are within the limits.
    private static (List<RowSlices> Sets, DataReport Report) Limited(
        IReadOnlyList<(TokenStore Store, string? Cached)> read, DataSection config, bool preferences, ContextLimit? room, SettingNames words)
    {
        var (stores, limit) = (read.Select(static r => r.Store).ToList(), new LengthLimit(config, room, words));
        if (!preferences)
        {
            stores.ForEach(s => RequirePlain(s, words));
        }

        var sets = stores.ConvertAll(limit.Apply);
        limit.Require();
        return (sets, new DataReport
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
            Duplicates = CountDuplicates([.. Hashes(sets)]),
            Longest = stores.Max(static s => Enumerable.Range(0, s.Count).Max(i => s.Entry(i).Tokens)),
            Cached = [.. read.Select(static r => r.Cached).OfType<string>()],
            Warnings = [.. stores.SelectMany(static s => s.Facts.Warnings).Distinct()],
        });
    }

    private static IEnumerable<ulong> Hashes(IEnumerable<RowSlices> sets) => sets.SelectMany(static s => s).Select(static r => r.Hash);

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

    private static RowSlices Mixed(IReadOnlyList<DataSource> sources, IReadOnlyList<RowSlices> sets, long seed) =>
        Interleaving.Weighted([.. sources.Zip(sets)], seed) is { Count: > 0 } rows ? rows : throw new InvalidDataException("the weights of data.train leave no row; raise them.");

    // Which rows are held back, at least a fraction: by their hashes, so that rows that are the same stay together, and their order has no part in it.
    private static Func<RowSlice, bool> HeldBack(IEnumerable<RowSlices> sets, double fraction, long seed)
    {
        var draws = Hashes(sets).Select(h => RowHash.Mix(h, seed)).ToArray();
        Array.Sort(draws);
        var last = draws[Math.Max(1, (int)Math.Round(fraction * draws.Length)) - 1];
        return draws[^1] > last ? row => RowHash.Mix(row.Hash, seed) <= last
            : throw new InvalidDataException($"data.eval_fraction leaves nothing to train on: there are {draws.Length} rows, and too few of them differ. Lower it, or give data.eval files.");
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
}
