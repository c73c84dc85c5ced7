using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Schedule-free AdamW (Defazio et al., 2024; schedulefree's AdamWScheduleFree). The parameters hold y, where gradients are taken; the state
/// holds z, which takes the steps; evaluated and saved is the weighted average of z, x = y + (z - y) (1 - 1 / beta1). The rate rises over its
/// own warmup and then stays.
/// </summary>
internal sealed class ScheduleFreeAdamW : ParameterOptimizer, IAveragedWeights
{
    private readonly AdamSettings _settings;
    private readonly ScheduleFreeSettings _own;
    private long _summed;
    private double _weightSum;
    private double _largest;
    private double _share;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters that it has in common with Adam.</param>
    /// <param name="own">Its own hyperparameters.</param>
    /// <param name="memory">How state is stored.</param>
    public ScheduleFreeAdamW(IEnumerable<TrainedParameter> parameters, AdamSettings settings, ScheduleFreeSettings own, OptimizerMemory memory = default)
        : base(parameters, memory, static p => [new StateShape("z", p.Parameter.shape) { StartsAsWeight = true }, StateShape.Square("exp_avg_sq", p)])
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(own);
        (_settings, _own) = (settings, own);
    }

    /// <inheritdoc/>
    public override double NextRate(double scheduled) => RateOf(StepCount, scheduled);

    /// <inheritdoc/>
    public Tensor Averaged(int index)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var slot = Slots[index];
        var (y, z) = (ExactWeight(index), slot.Stored[0].Values.to(slot.Trained.Parameter.device));
        using Scalar share = 1 - (1 / _settings.Beta1);
        return y.add(z.sub(y), share).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void BeforeStep(double learningRate, double gradientScale)
    {
        // Only ratios of the weights matter, and the rate is constant but for the warmup: the sum of a resumed run is computed again.
        var before = StepCount - 1;
        if (_summed > before)
        {
            (_summed, _weightSum, _largest) = (0, 0, 0);
        }

        while (_summed < before)
        {
            _ = Add();
        }

        _share = Add() / _weightSum;
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        using Scalar decay2 = _settings.Beta2, rest2 = 1 - _settings.Beta2, correction = 1 - Math.Pow(_settings.Beta2, StepCount), epsilon = _settings.Epsilon;
        using Scalar decay = DecayOf(slot, _settings.WeightDecay), share = _share, size = StepOfY(rate), back = -rate;
        _ = slot[1].mul_(decay2).addcmul_(gradient, gradient, rest2);
        var normalized = gradient.div(slot[1].div(correction).sqrt().add_(epsilon, Scalars.One)).add_(weight, decay);
        _ = weight.add_(slot[0].sub(weight), share).add_(normalized, size);
        _ = slot[0].add_(normalized, back);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        var correction = 1 - Math.Pow(_settings.Beta2, StepCount);
        return FusedUpdate.Of(slot, weight, gradient, new Rule(_settings, correction, DecayOf(slot, _settings.WeightDecay), _share, StepOfY(rate), rate));
    }

    private double StepOfY(double rate) => rate * ((_settings.Beta1 * (1 - _share)) - 1);

    private double RateOf(long step, double peak) => step < _own.WarmupSteps ? peak * (step + 1) / _own.WarmupSteps : peak;

    // Adds the weight of a step to the sum.
    private double Add()
    {
        _largest = Math.Max(RateOf(_summed, 1), _largest);
        var weight = Math.Pow(_summed + 1, _own.Power) * Math.Pow(_largest, _own.RatePower);
        _weightSum += weight;
        _summed++;
        return weight;
    }

    private readonly struct Rule(AdamSettings settings, double correction, double decay, double share, double size, double rate) : IUpdateRule
    {
        private readonly Vector256<float> _decay2 = Vector256.Create((float)settings.Beta2);
        private readonly Vector256<float> _rest2 = Vector256.Create((float)(1 - settings.Beta2));
        private readonly Vector256<float> _correction = Vector256.Create((float)correction);
        private readonly Vector256<float> _epsilon = Vector256.Create((float)settings.Epsilon);
        private readonly Vector256<float> _decay = Vector256.Create((float)decay);
        private readonly Vector256<float> _share = Vector256.Create((float)share);
        private readonly Vector256<float> _size = Vector256.Create((float)size);
        private readonly Vector256<float> _rate = Vector256.Create((float)rate);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third)
        {
            second = (second * _decay2) + (gradient * gradient * _rest2);
            var normalized = (gradient / (Vector256.Sqrt(second / _correction) + _epsilon)) + (weight * _decay);
            weight = weight + (_share * (first - weight)) + (_size * normalized);
            first -= _rate * normalized;
        }
    }
}

/// <summary>Hyperparameters of schedule-free optimizers.</summary>
/// <param name="WarmupSteps">Steps over which the rate rises; the first step already has a part of it.</param>
/// <param name="Power">Power of the step in the average's weights, r.</param>
/// <param name="RatePower">Power of the rate in the average's weights, weight_lr_power.</param>
internal sealed record ScheduleFreeSettings(long WarmupSteps, double Power, double RatePower);
