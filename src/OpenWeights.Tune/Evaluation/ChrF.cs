using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// Corpus chrF (Popović, 2015) with sacreBLEU's defaults: character n-grams of order 1 to 6 without white space, beta 2, effective order
/// (signature nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no).
/// </summary>
public static class ChrF
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

        var (inGiven, inExpected, shared) = (new long[LongestRun], new long[LongestRun], new long[LongestRun]);
        for (var i = 0; i < given.Count; i++)
        {
            var (text, reference) = (Characters(given[i]), Characters(expected[i]));
            for (var n = 1; n <= LongestRun; n++)
            {
                // An order counts only if the reference is long enough to have n-grams of it.
                inGiven[n - 1] += reference.Length >= n ? Math.Max(0, text.Length - n + 1) : 0;
                inExpected[n - 1] += Math.Max(0, reference.Length - n + 1);
                shared[n - 1] += NGrams.Shared(NGrams.Count(text, n), NGrams.Count(reference, n));
            }
        }

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
