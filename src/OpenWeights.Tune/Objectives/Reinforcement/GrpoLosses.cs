using System.Runtime.InteropServices;
using OpenWeights.Tune.Configuration;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>The losses of TRL 1.16's GRPOTrainer for each target, [targets], float64. Ratios are of new to old probability.</summary>
internal static class GrpoLosses
{
    // Bounds of log-ratios in vespo.
    private const double LargestLogRatio = 20;
    private static readonly double s_smallestLogWeight = Math.Log(1e-8);

    /// <summary>Whether the loss is a mean over all tokens of the step.</summary>
    internal static bool IsMeanOfTokens(string type) => type is "dapo" or "cispo" or "vespo";

    /// <summary>Whether the loss clips the ratio.</summary>
    internal static bool Clips(string type) => type is not ("cispo" or "sapo" or "vespo");

    /// <summary>The loss without divergence and entropy.</summary>
    /// <param name="settings">The settings.</param>
    /// <param name="type">loss_type.</param>
    /// <param name="answers">The micro-batch.</param>
    /// <param name="ratio">Ratio of each target; one value for an answer where ratios are of sequences.</param>
    /// <param name="advantages">Advantage of each target.</param>
    internal static Tensor Of(ObjectiveSection settings, string type, AnswerTensors answers, Tensor ratio, Tensor advantages)
    {
        switch (type)
        {
            case "cispo":
                return ratio.clamp(max: settings.EpsilonHigh ?? settings.Epsilon).detach().mul(advantages).mul(answers.LogProbs).neg();
            case "sapo":
                var temperatures = where(advantages.gt(0), zeros_like(advantages).add(settings.SapoTemperaturePos), zeros_like(advantages).add(settings.SapoTemperatureNeg));
                return ratio.sub(1).mul(temperatures).sigmoid().mul(4).div(temperatures).mul(advantages).neg();
            case "vespo":
                return answers.OfTargets(GammaWeights(settings, answers)).mul(advantages).mul(answers.LogProbs).neg();
            default:
                var clipped = ratio.clamp(1 - settings.Epsilon, 1 + (settings.EpsilonHigh ?? settings.Epsilon));
                return minimum(Bounded(ratio, settings).mul(advantages), clipped.mul(advantages)).neg();
        }
    }

    /// <summary>The ratio below delta, where it is set.</summary>
    internal static Tensor Bounded(Tensor ratio, ObjectiveSection settings) => settings.Delta is { } delta ? ratio.clamp(max: delta) : ratio;

    /// <summary>The weight of each answer in vespo, exp(lambda) w^k exp(-lambda w) with w its whole ratio, [rows], without gradient.</summary>
    internal static Tensor GammaWeights(ObjectiveSection settings, AnswerTensors answers)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logWeight = answers.Sum(answers.LogProbs.sub(answers.Old).clamp(-LargestLogRatio, LargestLogRatio)).clamp(s_smallestLogWeight, LargestLogRatio);
        var isGood = answers.Advantages.ge(0);
        Tensor Choose(double good, double bad) => where(isGood, zeros_like(logWeight).add(good), zeros_like(logWeight).add(bad));
        var (power, decay) = (Choose(settings.VespoKPos, settings.VespoKNeg), Choose(Math.Max(1e-4, settings.VespoLambdaPos), Math.Max(1e-4, settings.VespoLambdaNeg)));
        var weights = decay.add(power.mul(logWeight)).sub(decay.mul(logWeight.exp())).exp();
        return weights.masked_fill(weights.isfinite().logical_not(), 0).MoveToOuterDisposeScope();
    }

    /// <summary>1 for answers to keep, 0 for bad ones that the policy has moved far away from, [rows].</summary>
    internal static Tensor OffPolicyMask(double threshold, AnswerTensors answers)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var divergence = answers.Sum(answers.Old.sub(answers.LogProbs)).div(answers.Lengths);
        return answers.Advantages.ge(0).logical_or(divergence.le(threshold)).to(float64).MoveToOuterDisposeScope();
    }

    /// <summary>1 for the targets with the highest entropy of the micro-batch, a fraction of them, and 0 for the others, [targets].</summary>
    internal static Tensor EntropyMask(double fraction, Tensor entropies)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();

        // torch.quantile's interpolation in float32.
        float[] sorted = [.. MemoryMarshal.Cast<byte, float>(entropies.detach().cpu().bytes).ToArray().Order()];
        var rank = (float)(1 - fraction) * (sorted.Length - 1);
        var (below, above) = (sorted[(int)MathF.Floor(rank)], sorted[(int)MathF.Ceiling(rank)]);
        var part = rank - MathF.Floor(rank);
        var threshold = part < 0.5f ? below + (part * (above - below)) : above - ((above - below) * (1 - part));
        return entropies.detach().ge(threshold).to(float64).MoveToOuterDisposeScope();
    }
}
