using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// AdEMAMix (Pagliardini et al., 2024; bitsandbytes' AdEMAMix): Adam with a second, slower average of the gradients m2, which is added to the
/// first: w -= lr (m1 / c1 + alpha m2) / (sqrt(v) / c2 + eps). Alpha and the slow average's beta3 may rise over the first steps.
/// </summary>
internal sealed class AdEmaMix : ParameterOptimizer
{
    private readonly AdamSettings _adam;
    private readonly AdEmaMixSettings _settings;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="adam">Hyperparameters that it has in common with Adam.</param>
    /// <param name="settings">Its own hyperparameters.</param>
    /// <param name="memory">How state is stored.</param>
    public AdEmaMix(IEnumerable<TrainedParameter> parameters, AdamSettings adam, AdEmaMixSettings settings, OptimizerMemory memory = default)
        : base(parameters, memory, static p => [StateShape.Moment("exp_avg", p), StateShape.Moment("exp_avg_slow", p), StateShape.Square("exp_avg_sq", p)])
    {
        ArgumentNullException.ThrowIfNull(adam);
        ArgumentNullException.ThrowIfNull(settings);
        (_adam, _settings) = (adam, settings);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        var at = At();
        Decay(slot, weight, rate, _adam.WeightDecay);
        Average(slot[0], gradient, _adam.Beta1);
        Average(slot[1], gradient, at.Beta3);
        using Scalar decay2 = _adam.Beta2, rest2 = 1 - _adam.Beta2, first = at.First, root = at.Root, epsilon = _adam.Epsilon, alpha = at.Alpha, size = -rate;
        _ = slot[2].mul_(decay2).addcmul_(gradient, gradient, rest2);
        var mixed = slot[0].div(first).add_(slot[1], alpha);
        _ = weight.addcdiv_(mixed, slot[2].sqrt().div_(root).add_(epsilon, Scalars.One), size);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) =>
        FusedUpdate.Of(slot, weight, gradient, new Rule(_adam, At(), DecayFactor(slot, rate, _adam.WeightDecay), rate));

    private static void Average(Tensor mean, Tensor gradient, double beta)
    {
        using Scalar decay = beta, rest = 1 - beta;
        _ = mean.mul_(decay).add_(gradient, rest);
    }

    // The values of this step. beta3 rises so that the half-life of the slow average rises linearly (appendix of the paper).
    private StepValues At()
    {
        var (alpha, beta3) = (_settings.Alpha, _settings.Beta3);
        if (_settings.AlphaSteps is { } alphaSteps)
        {
            alpha = Math.Min(StepCount * alpha / alphaSteps, alpha);
        }

        if (_settings.Beta3Steps is { } betaSteps)
        {
            var (fast, slow, share) = (Math.Log(_adam.Beta1), Math.Log(_settings.Beta3), (double)StepCount / betaSteps);
            beta3 = Math.Min(Math.Exp(fast * slow / (((1 - share) * slow) + (share * fast))), _settings.Beta3);
        }

        return new StepValues(alpha, beta3, 1 - Math.Pow(_adam.Beta1, StepCount), Math.Sqrt(1 - Math.Pow(_adam.Beta2, StepCount)));
    }

    private readonly record struct StepValues(double Alpha, double Beta3, double First, double Root);

    private readonly struct Rule(AdamSettings adam, StepValues at, double decay, double rate) : IUpdateRule
    {
        private readonly Vector256<float> _decay = Vector256.Create((float)decay);
        private readonly Vector256<float> _decay1 = Vector256.Create((float)adam.Beta1);
        private readonly Vector256<float> _rest1 = Vector256.Create((float)(1 - adam.Beta1));
        private readonly Vector256<float> _decay2 = Vector256.Create((float)adam.Beta2);
        private readonly Vector256<float> _rest2 = Vector256.Create((float)(1 - adam.Beta2));
        private readonly Vector256<float> _decay3 = Vector256.Create((float)at.Beta3);
        private readonly Vector256<float> _rest3 = Vector256.Create((float)(1 - at.Beta3));
        private readonly Vector256<float> _first = Vector256.Create((float)at.First);
        private readonly Vector256<float> _root = Vector256.Create((float)at.Root);
        private readonly Vector256<float> _alpha = Vector256.Create((float)at.Alpha);
        private readonly Vector256<float> _epsilon = Vector256.Create((float)adam.Epsilon);
        private readonly Vector256<float> _rate = Vector256.Create((float)rate);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third)
        {
            first = (first * _decay1) + (gradient * _rest1);
            second = (second * _decay3) + (gradient * _rest3);
            third = (third * _decay2) + (gradient * gradient * _rest2);
            var mixed = (first / _first) + (_alpha * second);
            weight = (weight * _decay) - (_rate * mixed / ((Vector256.Sqrt(third) / _root) + _epsilon));
        }
    }
}

/// <summary>Hyperparameters of AdEMAMix.</summary>
/// <param name="Beta3">Decay rate of the slow average.</param>
/// <param name="Alpha">Weight of the slow average.</param>
/// <param name="AlphaSteps">Steps over which alpha rises from 0; null for none.</param>
/// <param name="Beta3Steps">Steps over which the slow average's decay rate rises from the first moment's; null for none.</param>
internal sealed record AdEmaMixSettings(double Beta3, double Alpha, long? AlphaSteps, long? Beta3Steps);
