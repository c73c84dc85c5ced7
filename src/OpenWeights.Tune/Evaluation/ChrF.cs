using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// Corpus chrF (Popović, 2015) with sacreBLEU's defaults: character n-grams of order 1 to 6 without white space, beta 2, effective order
/// (signature nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no).
/// </summary>
internal static class ChrF
{
    private const int LongestRun = 6;
    private const double Beta = 2;

    /// <summary>The score of texts, from 0 to 100.</summary>
    /// <param name="given">The texts to score.</param>
    /// <param name="expected">One reference per text.</param>
    /// <exception cref="ArgumentException">The numbers of texts and references differ.</exception>
    public static double Score(IReadOnlyList<string> given, IReadOnlyList<string> expected)
    {
        ArgumentNullException.ThrowIfNull(given);
        ArgumentNullException.ThrowIfNull(expected);
        if (given.Count != expected.Count)
        {
            throw new ArgumentException($"{given.Count} texts, but {expected.Count} references; there must be one per text.");
        }

        return Score(CorpusSums.Of(given.Select((text, i) => Counts(text, expected[i])), CountsLength));
    }

    /// <summary>Number of values of <see cref="Counts"/>.</summary>
    internal const int CountsLength = 3 * LongestRun;

    /// <summary>What a text adds to the score of a corpus: n-grams of each length of the text, of its reference, and those that match.</summary>
    /// <param name="given">The text.</param>
    /// <param name="expected">Its reference.</param>
    internal static long[] Counts(string given, string expected)
    {
        var (text, reference) = (Characters(given), Characters(expected));
        var counts = new long[CountsLength];
        for (var n = 1; n <= LongestRun; n++)
        {
            // An order counts only if the reference is long enough to have n-grams of it.
            counts[n - 1] = reference.Length >= n ? Math.Max(0, text.Length - n + 1) : 0;
            counts[LongestRun + n - 1] = Math.Max(0, reference.Length - n + 1);
            counts[(2 * LongestRun) + n - 1] = NGrams.Shared(NGrams.Count(text, n), NGrams.Count(reference, n));
        }

        return counts;
    }

    /// <summary>The score of a corpus from the sum of its texts' counts.</summary>
    /// <param name="sums">The sum of what <see cref="Counts"/> gives.</param>
    internal static double Score(long[] sums)
    {
        var (inGiven, inExpected, shared) = (sums[..LongestRun], sums[LongestRun..(2 * LongestRun)], sums[(2 * LongestRun)..]);
        var orders = Enumerable.Range(0, LongestRun).Where(n => inGiven[n] > 0 && inExpected[n] > 0).ToList();
        if (orders.Count == 0)
        {
            return 0;
        }

        var precision = orders.Average(n => (double)shared[n] / inGiven[n]);
        var recall = orders.Average(n => (double)shared[n] / inExpected[n]);
        return precision + recall == 0 ? 0 : 100 * (1 + (Beta * Beta)) * precision * recall / ((Beta * Beta * precision) + recall);
    }

    private static string[] Characters(string text) => [.. text.EnumerateRunes().Where(static r => !System.Text.Rune.IsWhiteSpace(r)).Select(static r => r.ToString())];
}

/// <summary>Counts n-grams.</summary>
internal static class NGrams
{
    /// <summary>Counts the n-grams of a sequence, joined by a separator that occurs in no item.</summary>
    internal static Dictionary<string, int> Count(IReadOnlyList<string> items, int length)
    {
        var counts = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i + length <= items.Count; i++)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(counts, string.Join(' ', items.Skip(i).Take(length)), out _)++;
        }

        return counts;
    }

    /// <summary>Number of matching n-grams, each counted as often as in the text with fewer of it.</summary>
    internal static long Shared(Dictionary<string, int> left, Dictionary<string, int> right) =>
        left.Sum(pair => (long)Math.Min(pair.Value, right.GetValueOrDefault(pair.Key)));
}
