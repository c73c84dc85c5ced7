using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>
/// Group relative policy optimization (Shao et al., 2024) with the losses, metrics and averages of TRL 1.16's GRPOTrainer: answers are compared
/// with the others of their prompt.
/// </summary>
internal sealed class GrpoObjective : SampledObjective
{
    private readonly string _type;
    private readonly ClipMetrics _clips = new();
    private double _entropyWeight;
    private double _lastEntropy = double.PositiveInfinity;
    private double _policyLoss;

    /// <summary>Creates the objective.</summary>
    /// <param name="context">What it is made from.</param>
    internal GrpoObjective(ObjectiveContext context)
        : base(context, AnswerSources.Of(context)) => (_type, _entropyWeight) = (Settings.LossType?.Values[0] ?? "dapo", Settings.EntropyCoef);

    /// <inheritdoc/>
    public override JsonObject? State
    {
        get
        {
            var state = base.State!;
            (state["entropy_coef"], state["last_entropy"]) = (_entropyWeight, double.IsFinite(_lastEntropy) ? _lastEntropy : null);
            return state;
        }

        set
        {
            base.State = value;
            (_entropyWeight, _lastEntropy) = (value?["entropy_coef"]?.GetValue<double>() ?? Settings.EntropyCoef, value?["last_entropy"]?.GetValue<double>() ?? double.PositiveInfinity);
        }
    }

    private bool IsOfSequences => Settings.ImportanceSamplingLevel == "sequence";

    private bool TrainsEntropy => Settings.EntropyCoef > 0 || Settings.UseAdaptiveEntropy;

    /// <inheritdoc/>
    public override Tensor? LossSum(CausalLanguageModel model, IReadOnlyList<TokenRow> rows)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(rows);
        using var scope = NewDisposeScope();
        if (AnswerTensors.Of(model, rows, Temperature, TrainsEntropy) is not { } answers)
        {
            return null;
        }

        var advantages = answers.OfTargets(answers.Advantages);
        var difference = answers.LogProbs.sub(answers.Old);
        var ratio = (IsOfSequences ? answers.OfTargets(answers.Sum(difference).div(answers.Lengths)) : difference).exp();
        var losses = GrpoLosses.Of(Settings, _type, answers, ratio, advantages);
        if (Settings.OffPolicyMaskThreshold is { } threshold)
        {
            losses = losses.mul(answers.OfTargets(GrpoLosses.OffPolicyMask(threshold, answers)));
        }

        var entropyMask = Settings.TopEntropyQuantile < 1 ? GrpoLosses.EntropyMask(Settings.TopEntropyQuantile, answers.Scores.Entropy!) : null;
        losses = entropyMask is null ? losses : losses.mul(entropyMask);
        losses = AddDivergence(losses, answers, ratio);
        var loss = Average(losses, answers);
        if (TrainsEntropy)
        {
            Metrics.Add("entropy_of_trained", entropyMask is null ? answers.Scores.Entropy! : answers.Scores.Entropy!.masked_select(entropyMask.to(@bool)));
            _policyLoss += MetricMeans.IsOff ? 0 : loss.detach().ToDouble() / Units;
            loss = loss.sub(EntropySum(answers, entropyMask).mul(AppliedEntropyWeight));
        }

        if (answers.Routers is { } routers)
        {
            loss = loss.add(routers.BalanceLoss(answers.Batch.RealTokens).mul(model.RouterLossWeight * Units / MicroBatches));
        }

        Observe(answers, ratio, rows.Count);
        CompareWithSampler(answers);
        Remember(answers);
        return loss.to(float32).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> End()
    {
        var metrics = new Dictionary<string, double>(base.End());
        _clips.Take(metrics, Ranks, Device);
        if (metrics.Remove("entropy_of_trained", out var entropy))
        {
            metrics["policy_loss"] = Ranks.Add([_policyLoss], Device)[0];
            if (Settings.UseAdaptiveEntropy)
            {
                _entropyWeight = entropy <= Settings.EntropyTarget ? Math.Min(_entropyWeight + Settings.EntropyCoefDelta, Settings.EntropyCoefMax) : Math.Max(_entropyWeight - Settings.EntropyCoefDelta, Settings.EntropyCoefMin);
                _lastEntropy = entropy;
            }

            metrics["entropy_coef"] = _entropyWeight;
        }

        _policyLoss = 0;
        return metrics;
    }

    private protected override long CountUnits() => _type switch
    {
        "bnpo" => MicroBatches,
        "dr_grpo" => (long)Answers * Settings.MaxCompletionLength,
        "dapo" or "cispo" or "vespo" => Targets,
        _ => Answers,
    };

    private protected override (double[] Advantages, double[] Deviations) Advantages(IReadOnlyList<TokenRow> rows, RewardTable rewards, IDictionary<string, double> metrics) =>
        rewards.Normalized(Settings.ScaleRewards, Settings.MultiObjectiveAggregation == "normalize_then_sum");

    // The weight from the end of the last step: the adaptive one applies only while the entropy is low.
    private double AppliedEntropyWeight => Settings.UseAdaptiveEntropy && _lastEntropy > Settings.EntropyTarget ? 0 : _entropyWeight;

    // The estimate k3 of the divergence from the reference (Schulman, 2020).
    private Tensor AddDivergence(Tensor losses, AnswerTensors answers, Tensor ratio)
    {
        if (answers.Reference is null)
        {
            return losses;
        }

        var difference = answers.Reference.sub(answers.LogProbs);
        var divergence = difference.exp().sub(difference).sub(1);
        divergence = Settings.UseBiasCorrectionKl ? divergence.mul(ratio) : divergence;
        Metrics.Add("kl", divergence);
        return losses.add(divergence.mul(Settings.DivergenceWeight));
    }

    // The sum whose quotient with the units of the step is the loss.
    private Tensor Average(Tensor losses, AnswerTensors answers) => _type switch
    {
        "grpo" or "sapo" => answers.Sum(losses).div(answers.Lengths).sum(),
        "bnpo" => losses.mean(),
        _ => losses.sum(),
    };

    // The same of the mean entropy of the tokens that are trained.
    private Tensor EntropySum(AnswerTensors answers, Tensor? mask)
    {
        var entropy = answers.Scores.Entropy!.to(float64);
        var sum = (mask is null ? entropy : entropy.mul(mask)).sum();
        return GrpoLosses.IsMeanOfTokens(_type) ? sum : (mask is null ? sum.div(entropy.numel()) : sum.div(mask.sum().clamp(min: 1))).mul((double)Units / MicroBatches);
    }

    private void Observe(AnswerTensors answers, Tensor ratio, int rows)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Metrics.Add("entropy", answers.Scores.Entropy!);
        var advantages = answers.OfTargets(answers.Advantages);
        var (low, high) = (1 - Settings.Epsilon, 1 + (Settings.EpsilonHigh ?? Settings.Epsilon));
        if (GrpoLosses.Clips(_type))
        {
            var bounded = GrpoLosses.Bounded(ratio, Settings);
            _clips.Add(Metrics, answers, bounded.lt(low).logical_and(advantages.lt(0)), bounded.gt(high).logical_and(advantages.gt(0)), IsOfSequences ? rows - answers.Rows.Count : null);
        }
        else if (_type == "cispo")
        {
            Metrics.Add("cispo_clip_ratio", ratio.gt(Settings.EpsilonHigh ?? Settings.Epsilon).logical_and(advantages.gt(0)).to(float64));
        }
        else if (_type == "vespo")
        {
            Metrics.Add("vespo/phi_seq_mean", GrpoLosses.GammaWeights(Settings, answers));
        }
    }
}
