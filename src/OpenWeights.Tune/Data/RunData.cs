using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>The rows of a run: what it trains on and what it evaluates on.</summary>
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

    /// <summary>Reads and checks all rows.</summary>
    /// <param name="config">The data section.</param>
    /// <param name="tokenizer">Makes token rows of texts.</param>
    /// <param name="vocabularySize">The number of tokens that the model knows.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="preferences">Whether rows with preferences are wanted too; they are neither packed nor divided.</param>
    /// <param name="room">How long a text the model may be given; null for any.</param>
    /// <exception cref="ConfigException">A setting is wrong.</exception>
    /// <exception cref="InvalidDataException">A row is wrong, has nothing to train, or is too long where that is an error; or there are no rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static RunData Read(DataSection config, RowTokenizer tokenizer, int vocabularySize, long seed, bool preferences = false, ContextLimit? room = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        SettingCheck.Require(config);
        var cache = new StoreCache(config, tokenizer, vocabularySize);
        var train = SourceRows.Read(config.Train, config, cache, preferences, room);
        var arePreferences = train.ArePreferences;
        int? packInto = config.Packs && !arePreferences ? config.MaxLength : null;
        if (config.EvalFraction > 0 && !arePreferences)
        {
            var (rest, held) = train.Split(config.EvalFraction, seed);
            var report = train.Report with { Rows = held.Count, Duplicates = 0, Dropped = 0, Truncated = 0, TruncatedTokens = 0, Split = 0, Untrained = 0, BadRows = 0, Cached = [] };
            return new RunData(new DataSet(rest.Weighted(seed), packInto, train.Report), new DataSet(held, null, report));
        }

        var trained = new DataSet(train.Weighted(seed), packInto, train.Report);
        if (config.Eval.Count == 0)
        {
            return new RunData(trained, null);
        }

        var eval = SourceRows.Read(config.Eval, config, cache, preferences, room);
        ulong[] known = [.. train.Hashes];
        Array.Sort(known);
        return new RunData(trained, new DataSet(eval.Weighted(seed), null, eval.Report with { Leaked = eval.Hashes.Count(h => Array.BinarySearch(known, h) >= 0) }));
    }
}
