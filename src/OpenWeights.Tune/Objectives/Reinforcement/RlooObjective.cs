using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>
/// REINFORCE leave-one-out (Ahmadian et al., 2024), as TRL 1.16's RLOOTrainer: the reward of an answer, less its divergence from the reference, is
/// compared with the mean of the others of its prompt; ratios are of whole answers. The loss is a mean over answers.
/// </summary>
internal sealed class RlooObjective(ObjectiveContext context) : SampledObjective(context, AnswerSources.Of(context))
{
    private readonly ClipMetrics _clips = new();

    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        if (AnswerTensors.Of(model, rows, Temperature, trainsEntropy: false) is not { } answers)
        {
            return null;
        }

        var (low, high) = (1 - Settings.Epsilon, 1 + (Settings.EpsilonHigh ?? Settings.Epsilon));
        var ratio = answers.Sum(answers.LogProbs.sub(answers.Old)).exp();
        var losses = minimum(ratio.mul(answers.Advantages), ratio.clamp(low, high).mul(answers.Advantages)).neg();

        // The ratio of an answer without trained tokens is 1.
        var loss = losses.sum().sub(rows.Where(static r => r.CountTargets() == 0).Sum(static r => r.Sample!.Advantage));
        if (answers.Routers is { } routers)
        {
            loss = loss.add(routers.BalanceLoss(answers.Batch.RealTokens).mul(model.RouterLossWeight * Units / MicroBatches));
        }

        using (no_grad())
        {
            Metrics.Add("entropy", answers.Scores.Entropy!);
            _clips.Add(Metrics, answers, answers.OfTargets(ratio.lt(low).logical_and(answers.Advantages.lt(0))), answers.OfTargets(ratio.gt(high).logical_and(answers.Advantages.gt(0))), rows.Count - answers.Rows.Count);
        }

        CompareWithSampler(answers);
        Remember(answers);
        return loss.to(float32).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> End()
    {
        var metrics = new Dictionary<string, double>(base.End());
        _clips.Take(metrics, Ranks, Device);
        return metrics;
    }

    private protected override bool NeedsOld => Context.Reference is not null;

    private protected override long CountUnits() => Answers;

    private protected override (double[] Advantages, double[] Deviations) Advantages(IReadOnlyList<TokenRow> rows, RewardTable rewards, IDictionary<string, double> metrics)
    {
        double[] judged = Settings.RewardClipRange is [var least, var most] ? [.. rewards.Totals.Select(t => double.IsNaN(t) ? t : Math.Clamp(t, least, most))] : rewards.Totals;
        if (Context.Reference is not null)
        {
            double[] divergences = [.. rows.Select(static r => r.CountTargets() == 0 ? 0 : r.Sample!.LogProbs!.Zip(r.Sample.ReferenceLogProbs!, static (old, reference) => (double)old - reference).Sum())];
            metrics["kl"] = divergences.Sum() / Math.Max(1, rows.Sum(static r => (long)r.CountTargets()));
            judged = [.. judged.Zip(divergences, (reward, divergence) => reward - (Settings.DivergenceWeight * divergence))];
        }

        return rewards.LeaveOneOut(judged, Settings.NormalizeAdvantages);
    }
}
