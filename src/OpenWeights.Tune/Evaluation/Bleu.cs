using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// Corpus BLEU (Papineni et al., 2002) with sacreBLEU's defaults (Post, 2018): mteval-v13a tokenization, n-grams up to 4,
/// exponential smoothing, one reference (signature nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp).
/// </summary>
internal static partial class Bleu
{
    private const int LongestRun = 4;

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
    internal const int CountsLength = (2 * LongestRun) + 2;

    /// <summary>What a text adds to the score of a corpus: matching n-grams and all n-grams of each length, and the words of the text and of its reference.</summary>
    /// <param name="given">The text.</param>
    /// <param name="expected">Its reference.</param>
    internal static long[] Counts(string given, string expected)
    {
        var (text, reference) = (Words(given), Words(expected));
        var counts = new long[CountsLength];
        for (var n = 1; n <= LongestRun; n++)
        {
            counts[n - 1] = NGrams.Shared(NGrams.Count(text, n), NGrams.Count(reference, n));
            counts[LongestRun + n - 1] = Math.Max(0, text.Length - n + 1);
        }

        (counts[^2], counts[^1]) = (text.Length, reference.Length);
        return counts;
    }

    /// <summary>The score of a corpus from the sum of its texts' counts.</summary>
    /// <param name="sums">The sum of what <see cref="Counts"/> gives.</param>
    internal static double Score(long[] sums) => Score(sums[..LongestRun], sums[LongestRun..(2 * LongestRun)], sums[^2], sums[^1]);

    /// <summary>Splits a text into words as mteval-v13a does.</summary>
    /// <param name="text">The text.</param>
    public static string[] Words(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        text = text.TrimEnd().Replace("<skipped>", "", StringComparison.Ordinal).Replace("-\n", "", StringComparison.Ordinal).Replace('\n', ' ');
        text = text.Replace("&quot;", "\"", StringComparison.Ordinal).Replace("&amp;", "&", StringComparison.Ordinal)
            .Replace("&lt;", "<", StringComparison.Ordinal).Replace("&gt;", ">", StringComparison.Ordinal);
        text = Punctuation().Replace($" {text} ", " $1 ");
        text = MarkAfterNoDigit().Replace(text, "$1 $2 ");
        text = MarkBeforeNoDigit().Replace(text, " $1 $2");
        text = DashAfterDigit().Replace(text, "$1 $2 ");
        return text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
    }

    private static double Score(long[] shared, long[] all, long givenWords, long expectedWords)
    {
        if (shared.All(static s => s == 0) || all[^1] == 0)
        {
            return 0;
        }

        // An n-gram order without a match counts as half a match, the next one as a quarter, ... (Chen and Cherry, 2014, method 3)
        var (logs, smoothing) = (0.0, 1.0);
        for (var n = 0; n < LongestRun; n++)
        {
            logs += shared[n] > 0 ? Math.Log((double)shared[n] / all[n]) : Math.Log(1 / ((smoothing *= 2) * all[n]));
        }

        var brevity = givenWords < expectedWords ? Math.Exp(1 - ((double)expectedWords / givenWords)) : 1;
        return 100 * brevity * Math.Exp(logs / LongestRun);
    }

    [GeneratedRegex(@"([\{-\~\[-\` -\&\(-\+\:-\@\/])")]
    private static partial Regex Punctuation();

    [GeneratedRegex(@"([^0-9])([\.,])")]
    private static partial Regex MarkAfterNoDigit();

    [GeneratedRegex(@"([\.,])([^0-9])")]
    private static partial Regex MarkBeforeNoDigit();

    [GeneratedRegex("([0-9])(-)")]
    private static partial Regex DashAfterDigit();
}
