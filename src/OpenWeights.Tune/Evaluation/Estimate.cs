namespace OpenWeights.Tune.Evaluation;

/// <summary>A measured value, how much it would vary with other questions, and the interval that holds the true one in 95 of 100 cases.</summary>
/// <param name="Value">The value.</param>
/// <param name="StandardError">Its standard error; not a number for fewer than two questions.</param>
/// <param name="Low">Lower end of the interval.</param>
/// <param name="High">Upper end of the interval.</param>
internal sealed record Estimate(double Value, double StandardError, double Low, double High)
{
    // The 97.5th percentile of a normal distribution.
    private const double Normal = 1.959963984540054;
    private const int Resamples = 1000;

    /// <summary>
    /// The mean of a value for each question, with the standard error of EleutherAI's harness (the sample's standard deviation over the root of
    /// its size). The interval is Wilson's if every value is 0 or 1, else the mean plus and minus 1.96 standard errors.
    /// </summary>
    /// <param name="values">The values; at least one.</param>
    public static Estimate OfMean(IReadOnlyList<double> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentOutOfRangeException.ThrowIfZero(values.Count);
        var (count, mean) = (values.Count, values.Average());
        var error = count < 2 ? double.NaN : Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (count - 1) / count);
        if (!values.All(static v => v is 0 or 1))
        {
            return new Estimate(mean, error, mean - (Normal * error), mean + (Normal * error));
        }

        var spread = 1 + (Normal * Normal / count);
        var centre = (mean + (Normal * Normal / (2 * count))) / spread;
        var half = Normal / spread * Math.Sqrt((mean * (1 - mean) / count) + (Normal * Normal / (4.0 * count * count)));
        return new Estimate(mean, error, centre - half, centre + half);
    }

    /// <summary>The mean difference of two measurements of the same questions, whose standard error is that of the differences.</summary>
    /// <param name="values">A value for each question.</param>
    /// <param name="others">The value of the other measurement for each question.</param>
    public static Estimate OfDifference(IReadOnlyList<double> values, IReadOnlyList<double> others)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(others);
        var differences = values.Zip(others, static (a, b) => a - b).ToList();
        var (mean, count) = (differences.Average(), differences.Count);
        var error = count < 2 ? double.NaN : Math.Sqrt(differences.Sum(d => (d - mean) * (d - mean)) / (count - 1) / count);
        return new Estimate(mean, error, mean - (Normal * error), mean + (Normal * error));
    }

    /// <summary>
    /// A score of a whole corpus, with the standard deviation and the 2.5th and 97.5th percentile of the scores of a thousand corpora drawn from it with
    /// replacement (bootstrap; the random numbers are always the same).
    /// </summary>
    /// <param name="count">Number of texts.</param>
    /// <param name="score">The score of the texts of given numbers, which may repeat.</param>
    internal static Estimate OfCorpus(int count, Func<IEnumerable<int>, double> score)
    {
        var random = new Random(12345);
        var scores = Enumerable.Range(0, Resamples).Select(_ => score(Drawn(random, count))).Order().ToArray();
        var mean = scores.Average();
        return new Estimate(
            score(Enumerable.Range(0, count)), count < 2 ? double.NaN : Math.Sqrt(scores.Sum(s => (s - mean) * (s - mean)) / (Resamples - 1)),
            scores[Resamples / 40], scores[Resamples - 1 - (Resamples / 40)]);
    }

    private static int[] Drawn(Random random, int count)
    {
        var drawn = new int[count];
        for (var i = 0; i < count; i++)
        {
            drawn[i] = random.Next(count);
        }

        return drawn;
    }
}
