using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>What is known of sampled answers before training, by TRL's names.</summary>
internal static class SampleMetrics
{
    /// <summary>The metrics of answers sampled together.</summary>
    /// <param name="rows">The answers.</param>
    /// <param name="rewards">Their rewards.</param>
    /// <param name="deviations">The deviation of rewards that each answer is compared with.</param>
    internal static Dictionary<string, double> Of(IReadOnlyList<TokenRow> rows, RewardTable rewards, double[] deviations)
    {
        var metrics = new Dictionary<string, double>();
        double[] lengths = [.. rows.Select(static r => (double)r.Sample!.Length)];
        double[] ended = [.. rows.Where(static r => !r.Sample!.IsTruncated).Select(static r => (double)r.Sample!.Length).DefaultIfEmpty(0)];
        foreach (var (name, values) in new[] { ("", lengths), ("terminated_", ended) })
        {
            (metrics[$"completions/mean_{name}length"], metrics[$"completions/min_{name}length"], metrics[$"completions/max_{name}length"]) = (values.Average(), values.Min(), values.Max());
        }

        metrics["completions/clipped_ratio"] = rows.Average(static r => r.Sample!.IsTruncated ? 1.0 : 0);
        for (var i = 0; i < rewards.Names.Count; i++)
        {
            var column = rewards.Column(i);
            (metrics[$"rewards/{rewards.Names[i]}/mean"], metrics[$"rewards/{rewards.Names[i]}/std"]) = (RewardTable.Mean(column), RewardTable.Deviation(column));
        }

        (metrics["reward"], metrics["reward_std"]) = (RewardTable.Mean(rewards.Totals), RewardTable.Deviation(rewards.Totals));
        metrics["frac_reward_zero_std"] = deviations.Average(static d => Math.Abs(d) <= 1e-8 ? 1.0 : 0);
        return metrics;
    }
}
