using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives.Preferences;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Labels;

/// <summary>
/// Reward models as TRL's RewardTrainer: the Bradley-Terry loss -log sigmoid(chosen - rejected - margin), and a term that keeps rewards near zero
/// (Eisenstein et al., 2023), center_rewards_coefficient x (chosen + rejected)².
/// </summary>
/// <param name="centering">center_rewards_coefficient; null for none.</param>
internal sealed class RewardObjective(double? centering) : PairObjective
{
    private readonly List<Tensor> _rewards = [];

    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        var rewards = LabelScores.Of(model, rows).to(float64);
        if (!MetricMeans.IsOff)
        {
            _rewards.Add(rewards.detach().DetachFromDisposeScope());
        }

        // The rows are pairs, [pairs, 2].
        var pairs = rewards.view(-1, 2);
        var (chosen, rejected) = (pairs.select(1, 0), pairs.select(1, 1));
        var difference = chosen.sub(rejected);
        var margins = tensor(rows.Where(static r => r.Role == RowRole.Chosen).Select(static r => r.Margin).ToArray(), device: model.Device);
        var losses = PairLosses.LogSigmoid(difference.sub(margins)).neg();
        Metrics.Add("accuracy", difference.gt(0).to(float64));
        Metrics.Add("margin", difference);
        if (centering is { } coefficient)
        {
            losses = losses.add(chosen.add(rejected).square().mul(coefficient));
        }

        return losses.sum().to(float32).MoveToOuterDisposeScope();
    }

    private protected override void AddMetrics(Dictionary<string, double> metrics)
    {
        using var scope = NewDisposeScope();
        var all = _rewards.Count > 0 ? cat([.. _rewards.Select(static r => r.view(-1))]) : null;
        double[] own = all is null ? [0, double.PositiveInfinity, 0, double.NegativeInfinity] : [all.numel(), all.min().ToDouble(), all.mean().ToDouble(), all.max().ToDouble()];
        var ofRanks = Ranks.Gather(own, Device);
        if (ofRanks.Sum(static r => r[0]) is > 0 and var count)
        {
            metrics["min_reward"] = ofRanks.Min(static r => r[1]);
            metrics["mean_reward"] = ofRanks.Length == 1 ? own[2] : ofRanks.Sum(static r => r[0] * r[2]) / count;
            metrics["max_reward"] = ofRanks.Max(static r => r[3]);
        }

        Clear();
    }

    private protected override void Clear()
    {
        _rewards.ForEach(static r => r.Dispose());
        _rewards.Clear();
    }
}
