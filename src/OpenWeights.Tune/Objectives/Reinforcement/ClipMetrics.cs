using OpenWeights.Tune.Distributed;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>How often ratios were clipped, by TRL's names: means, and the least and most clipped answer.</summary>
internal sealed class ClipMetrics
{
    private readonly List<Tensor> _low = [];
    private readonly List<Tensor> _high = [];

    /// <summary>Adds a micro-batch.</summary>
    /// <param name="means">Receives the means.</param>
    /// <param name="answers">The micro-batch.</param>
    /// <param name="low">Whether each target was clipped from below.</param>
    /// <param name="high">Whether it was from above.</param>
    /// <param name="others">Where ratios are of answers, the number of answers that are not trained, which count as not clipped; null for ratios of tokens.</param>
    internal void Add(MetricMeans means, AnswerTensors answers, Tensor low, Tensor high, int? others)
    {
        if (MetricMeans.IsOff)
        {
            return;
        }

        using var scope = NewDisposeScope();
        foreach (var (name, clipped, extremes) in new[] { ("low", low, _low), ("high", high, _high), ("region", low.logical_or(high), null) })
        {
            var ofAnswers = answers.Sum(clipped.to(float64)).div(answers.Lengths);
            means.Add($"clip_ratio/{name}_mean", others is null ? clipped.to(float64) : ofAnswers);
            if (others > 0)
            {
                means.Add($"clip_ratio/{name}_mean", zeros([others.Value], float64));
            }

            extremes?.Add((name == "low" ? ofAnswers.min() : ofAnswers.max()).DetachFromDisposeScope());
        }
    }

    /// <summary>Writes the extremes of the step, over all ranks, and clears them.</summary>
    internal void Take(Dictionary<string, double> metrics, RankGroup ranks, Device device)
    {
        var own = (Low: _low.Select(static t => t.ToDouble()).DefaultIfEmpty(double.PositiveInfinity).Min(), High: _high.Select(static t => t.ToDouble()).DefaultIfEmpty(double.NegativeInfinity).Max());
        var all = ranks.Gather([own.Low, own.High], device);
        if (all.Min(static r => r[0]) is var low && !double.IsPositiveInfinity(low))
        {
            (metrics["clip_ratio/low_min"], metrics["clip_ratio/high_max"]) = (low, all.Max(static r => r[1]));
        }

        _low.Concat(_high).ToList().ForEach(static t => t.Dispose());
        _low.Clear();
        _high.Clear();
    }
}
