namespace OpenWeights.Tune.Evaluation;

/// <summary>Sums of what the texts of a corpus add to a score that is of the corpus, not a mean of its texts.</summary>
internal static class CorpusSums
{
    /// <summary>The sum of the counts of texts.</summary>
    /// <param name="counts">The counts of each text.</param>
    /// <param name="length">Number of counts of a text.</param>
    internal static long[] Of(IEnumerable<long[]> counts, int length)
    {
        var sums = new long[length];
        foreach (var one in counts)
        {
            Add(sums, one);
        }

        return sums;
    }

    private static void Add(long[] sums, long[] one)
    {
        for (var i = 0; i < sums.Length; i++)
        {
            sums[i] += one[i];
        }
    }
}
