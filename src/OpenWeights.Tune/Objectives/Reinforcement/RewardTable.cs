namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>The rewards of answers: a column for each reward, NaN where an answer was not judged. Groups are consecutive rows of one size.</summary>
internal sealed class RewardTable
{
    private readonly double[][] _rows;
    private readonly IReadOnlyList<double> _weights;

    /// <summary>Creates a table.</summary>
    /// <param name="names">The rewards.</param>
    /// <param name="weights">Their weights; empty for 1 each.</param>
    /// <param name="rows">The rewards of each answer by name.</param>
    /// <param name="groupSize">Answers per prompt.</param>
    /// <exception cref="InvalidDataException">There is not one weight for each reward.</exception>
    internal RewardTable(IReadOnlyList<string> names, IReadOnlyList<double> weights, IReadOnlyList<IReadOnlyDictionary<string, double?>> rows, int groupSize)
    {
        if (weights.Count > 0 && weights.Count != names.Count)
        {
            throw new InvalidDataException($"objective.reward_weights has {weights.Count} numbers, and the samples have {names.Count} rewards ({string.Join(", ", names)}); give one weight for each.");
        }

        _rows = [.. rows.Select(r => names.Select(n => r.GetValueOrDefault(n) ?? double.NaN).ToArray())];
        _weights = weights.Count > 0 ? weights : [.. names.Select(static _ => 1.0)];
        (Names, GroupSize) = (names, groupSize);
        Totals = [.. _rows.Select(Total)];
    }

    /// <summary>The rewards.</summary>
    internal IReadOnlyList<string> Names { get; }

    /// <summary>Answers per prompt.</summary>
    internal int GroupSize { get; }

    /// <summary>The weighted sum of each answer; NaN for one that no reward judged.</summary>
    internal double[] Totals { get; }

    /// <summary>The values of a reward.</summary>
    internal double[] Column(int reward) => [.. _rows.Select(r => r[reward])];

    /// <summary>
    /// Advantages of GRPO (TRL 1.16): rewards less their group's mean, divided by a standard deviation, and the deviation itself of each answer. Answers that no
    /// reward judged have no advantage, and do not enter means.
    /// </summary>
    /// <param name="scale">group, batch or none.</param>
    /// <param name="normalizeFirst">Whether each reward is normalised before they are added (GDPO).</param>
    internal (double[] Advantages, double[] Deviations) Normalized(string scale, bool normalizeFirst)
    {
        const double small = 1e-4;
        if (normalizeFirst)
        {
            var columns = Enumerable.Range(0, Names.Count).Select(c => ByGroup(Column(c), static g => (Mean(g), Deviation(g)), static (v, s) => (v - s.Item1) / (s.Item2 + small))).ToList();
            var sums = _rows.Select((row, i) => row.All(double.IsNaN) ? double.NaN : columns.Select((c, k) => double.IsNaN(c[i]) ? 0 : c[i] * _weights[k]).Sum()).ToArray();
            var (mean, deviation) = (Mean(sums), Deviation(sums));
            return ([.. sums.Select(s => OrZero((s - mean) / (deviation + small)))], [.. sums.Select(_ => deviation)]);
        }

        var deviations = scale == "batch" ? [.. Totals.Select(_ => Deviation(Totals))] : ByGroup(Totals, Deviation, static (_, d) => d);
        var differences = ByGroup(Totals, Mean, static (v, m) => v - m);
        return ([.. differences.Select((d, i) => OrZero(scale == "none" ? d : d / (deviations[i] + small)))], deviations);
    }

    /// <summary>Advantages of RLOO (TRL 1.16): each reward less the mean of the others of its group, and the deviation of the rewards in the group.</summary>
    /// <param name="rewards">Rewards of the answers, NaN for none.</param>
    /// <param name="normalize">Whether advantages are normalised over all answers.</param>
    internal (double[] Advantages, double[] Deviations) LeaveOneOut(double[] rewards, bool normalize)
    {
        var advantages = ByGroup(rewards, static g => (Sum: g.Where(static v => !double.IsNaN(v)).Sum(), Count: g.Count(static v => !double.IsNaN(v))), static (v, s) => v - ((s.Sum - v) / (s.Count - 1)));
        if (normalize)
        {
            var (mean, deviation) = (Mean(advantages), Deviation(advantages));
            advantages = [.. advantages.Select(a => (a - mean) / (deviation + 1e-4))];
        }

        return ([.. advantages.Select(OrZero)], ByGroup(rewards, Deviation, static (_, d) => d));
    }

    /// <summary>Mean of the numbers that are not NaN; NaN for none.</summary>
    internal static double Mean(IReadOnlyCollection<double> values) => values.Where(static v => !double.IsNaN(v)).DefaultIfEmpty(double.NaN).Average();

    /// <summary>Standard deviation of the numbers that are not NaN, with n - 1; NaN for fewer than two.</summary>
    internal static double Deviation(IReadOnlyCollection<double> values)
    {
        var (mean, count) = (Mean(values), values.Count(static v => !double.IsNaN(v)));
        return count < 2 ? double.NaN : Math.Sqrt(values.Where(static v => !double.IsNaN(v)).Sum(v => (v - mean) * (v - mean)) / (count - 1));
    }

    private double Total(double[] row) => row.All(double.IsNaN) ? double.NaN : row.Select((v, k) => double.IsNaN(v) ? 0 : v * _weights[k]).Sum();

    private double[] ByGroup<T>(double[] values, Func<double[], T> summary, Func<double, T, double> each) =>
        [.. values.Chunk(GroupSize).SelectMany(g => summary(g) is var s ? g.Select(v => each(v, s)) : [])];

    private static double OrZero(double value) => double.IsFinite(value) ? value : 0;
}
