using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>The training and eval rows of a run. <see cref="Read"/> runs the data pipeline.</summary>
/// <param name="Train">The training rows.</param>
/// <param name="Eval">The eval rows, never packed; null if there are none.</param>
internal sealed record RunData(DataSet Train, DataSet? Eval)
{
    /// <summary>The classes of the rows, training rows' first; empty for rows without.</summary>
    public IReadOnlyList<string> Labels { get; private init; } = [];

    /// <summary>Warnings to show before the run.</summary>
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
                yield return $"{leaked} of the {Eval.Report.Rows} rows of data.eval also occur in the training data; metrics on them are not meaningful.";
            }
        }
    }

    /// <summary>Reads and checks all rows: tokenized or taken from the cache, limited in length, split for evaluation, interleaved, and packed.</summary>
    /// <param name="config">The data section.</param>
    /// <param name="tokenizer">Tokenizes rows.</param>
    /// <param name="vocabularySize">Vocabulary size of the model.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="kind">The rows that the objective trains on, which are packed only if they are plain; null for whatever the files have.</param>
    /// <param name="room">Context length of the model; null for no limit.</param>
    /// <param name="words">Names of settings in messages; null for those of the YAML file.</param>
    /// <exception cref="ConfigException">A setting is invalid.</exception>
    /// <exception cref="InvalidDataException">A row is invalid, has no trained tokens, or is too long, and that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static RunData Read(DataSection config, RowTokenizer tokenizer, int vocabularySize, long seed, RowKind? kind = RowKind.Plain, ContextLimit? room = null, SettingNames? words = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        SettingCheck.Require(config);
        var cache = new StoreCache(config, tokenizer, vocabularySize, promptsAlone: kind == RowKind.Prompts);
        (List<RowSlices> Sets, DataReport Report) OfFiles(IReadOnlyList<DataSource> sources) => Limited([.. sources.Select(cache.Get)], config, kind, room, words ?? SettingNames.OfConfig);
        var (sets, report) = OfFiles(config.Train);
        var labels = new List<string>(Classes(sets));
        var arePreferences = sets.Any(static s => s.Count > 0 && s[0].Role != RowRole.Plain);
        DataSet Trained(IReadOnlyList<RowSlices> rows) => new(Mixed(config.Train, rows, seed), config.Packs && !arePreferences ? config.MaxLength : null, report);
        if (config.EvalFraction > 0)
        {
            var isHeld = HeldBack(sets, config.EvalFraction, seed);
            var held = Interleaving.InTurn([.. sets.Select(s => s.Where(isHeld))]);
            var heldReport = report with { Rows = held.Count, Duplicates = 0, Dropped = 0, Truncated = 0, TruncatedTokens = 0, Split = 0, Untrained = 0, BadRows = 0, Cached = [] };
            return new RunData(Trained([.. sets.Select(s => s.Where(r => !isHeld(r)))]), new DataSet(held, null, heldReport)) { Labels = labels };
        }

        var train = Trained(sets);
        if (config.Eval.Count == 0)
        {
            return new RunData(train, null) { Labels = labels };
        }

        var (eval, evalReport) = OfFiles(config.Eval);
        ulong[] known = [.. Hashes(sets)];
        Array.Sort(known);
        return new RunData(train, new DataSet(Mixed(config.Eval, eval, seed), null, evalReport with { Leaked = Hashes(eval).Count(h => Array.BinarySearch(known, h) >= 0) })) { Labels = [.. labels.Union(Classes(eval))] };
    }

    // The classes of the rows, in order of their first row.
    private static IEnumerable<string> Classes(IEnumerable<RowSlices> sets) => sets.SelectMany(static s => s.Stores).SelectMany(static s => s.Facts.Labels).Distinct();

    // The rows of each data set within the limits.
    private static (List<RowSlices> Sets, DataReport Report) Limited(
        IReadOnlyList<(TokenStore Store, string? Cached)> read, DataSection config, RowKind? kind, ContextLimit? room, SettingNames words)
    {
        var (stores, limit) = (read.Select(static r => r.Store).ToList(), new LengthLimit(config, room, words));
        if (kind is { } wanted)
        {
            stores.ForEach(s => Require(s, wanted, words));
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
        Interleaving.Weighted([.. sources.Zip(sets)], seed) is { Count: > 0 } rows ? rows : throw new InvalidDataException("the weights of data.train select no rows; raise them.");

    // Selects the held-out rows by hash, so that identical rows stay together and their order does not matter.
    private static Func<RowSlice, bool> HeldBack(IEnumerable<RowSlices> sets, double fraction, long seed)
    {
        var draws = Hashes(sets).Select(h => RowHash.Mix(h, seed)).ToArray();
        Array.Sort(draws);
        var last = draws[Math.Max(1, (int)Math.Round(fraction * draws.Length)) - 1];
        return draws[^1] > last ? row => RowHash.Mix(row.Hash, seed) <= last
            : throw new InvalidDataException($"data.eval_fraction leaves no training rows: there are {draws.Length} rows, and too few distinct ones. Lower it, or set data.eval.");
    }

    private static void Require(TokenStore store, RowKind kind, SettingNames words)
    {
        for (var i = 0; i < store.Count; i++)
        {
            if (store.Entry(i).Role is var role && KindOf(role) is var found && found != kind && (found, kind) != (RowKind.Pairs, RowKind.Labelled))
            {
                throw new InvalidDataException($"{store.Place(i)}: {Wrong(role, kind, words)}");
            }
        }
    }

    private static RowKind KindOf(RowRole role) => role switch
    {
        RowRole.Chosen or RowRole.Rejected => RowKind.Pairs,
        RowRole.Desired or RowRole.Undesired => RowKind.Labelled,
        RowRole.Classified => RowKind.Classified,
        RowRole.Related => RowKind.Related,
        RowRole.Prompt => RowKind.Prompts,
        RowRole.Sampled => RowKind.Samples,
        _ => RowKind.Plain,
    };

    private static string Wrong(RowRole role, RowKind kind, SettingNames words) => (kind, KindOf(role)) switch
    {
        (RowKind.Classified, _) => "this row has no class, but the objective classification trains on texts with one. Each row needs a label: {\"text\": ..., \"label\": ...}.",
        (RowKind.Related, _) => "this row has no positive, but the objective embedding trains on texts that belong together. Each row needs an anchor and a positive: {\"anchor\": ..., \"positive\": ..., \"negatives\": [...]}.",
        (_, RowKind.Classified) => "this row is a text with a class; train on it with objective.type: classification.",
        (_, RowKind.Related) => "this row has an anchor and a positive; train on it with objective.type: embedding.",
        (RowKind.Samples, _) => "this row has no rewards, but the objective trains on recorded samples. Each row needs {\"prompt_ids\": [...], \"completion_ids\": [...], \"group\": 0, \"rewards\": {\"name\": 1.0}}; leave objective.samples out to sample answers to prompts while training.",
        (_, RowKind.Samples) => "this row is a sampled answer with rewards; set objective.type grpo or rloo, and name the file in objective.samples.",
        (_, RowKind.Prompts) => "this row is a prompt without an answer; only objective.type grpo and rloo, which sample answers, train on prompts alone.",
        (RowKind.Pairs, RowKind.Plain) => "this row has one answer, but the objective trains on pairs. Each row needs a chosen and a rejected answer: {\"prompt\": ..., \"chosen\": ..., \"rejected\": ...}.",
        (RowKind.Pairs, _) => "this row is an answer with a label, but the objective trains on pairs of a chosen and a rejected answer. Use objective.type kto or bco for labels.",
        (RowKind.Labelled, _) => "this row has no label, but the objective trains on desirable and undesirable answers. Each row needs one, {\"prompt\": ..., \"completion\": ..., \"label\": true}, or is a pair, which counts as two.",
        _ => "this row is a preference (a chosen and a rejected answer, or an answer with a label), but the objective sft trains on a single answer. "
            + (words["data.train.fields"] is "--field"
                ? "Select the preferred answer, such as --field prompt=prompt --field completion=chosen."
                : "Select the preferred answer with the data set's fields, such as `fields: { prompt: prompt, completion: chosen }` or `fields: { messages: chosen }`; or train on preferences with objective.type: dpo."),
    };
}
