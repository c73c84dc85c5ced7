using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in PyTorch's order of operations. Moments are float32 for every
/// parameter dtype.
/// </summary>
public sealed class AdamW : ParameterOptimizer
{
    private readonly AdamSettings _settings;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;
    private readonly Scalar _epsilon;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters.</param>
    /// <param name="memory">How state is stored.</param>
    public AdamW(IEnumerable<TrainedParameter> parameters, AdamSettings settings, OptimizerMemory memory = default)
        : base(parameters, memory, Moments)
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        (_decay1, _rest1) = (Keep(settings.Beta1), Keep(1 - settings.Beta1));
        (_decay2, _rest2, _epsilon) = (Keep(settings.Beta2), Keep(1 - settings.Beta2), Keep(settings.Epsilon));
    }

    internal static IEnumerable<(string Name, Tensor Tensor)> Moments(Tensor parameter) =>
        [("exp_avg", parameter.zeros_like(float32)), ("exp_avg_sq", parameter.zeros_like(float32))];

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        using Scalar root = Math.Sqrt(1 - Math.Pow(_settings.Beta2, StepCount));
        using Scalar size = -rate / (1 - Math.Pow(_settings.Beta1, StepCount));
        Decay(slot, weight, rate, _settings.WeightDecay);
        var (mean, square) = (slot[0], slot[1]);
        _ = mean.mul_(_decay1).add_(gradient, _rest1);
        _ = square.mul_(_decay2).addcmul_(gradient, gradient, _rest2);
        var denominator = square.sqrt().div_(root).add_(_epsilon, Scalars.One);
        _ = weight.addcdiv_(mean, denominator, size);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        var (first, second) = (1 - Math.Pow(_settings.Beta1, StepCount), Math.Sqrt(1 - Math.Pow(_settings.Beta2, StepCount)));
        var rule = new Rule(_settings, DecayFactor(slot, rate, _settings.WeightDecay), second, -rate / first);
        return FusedUpdate.Of(slot, weight, gradient, rule);
    }

    private readonly struct Rule(AdamSettings settings, double decay, double root, double size) : IUpdateRule
    {
        private readonly Vector256<float> _decay = Vector256.Create((float)decay);
        private readonly Vector256<float> _decay1 = Vector256.Create((float)settings.Beta1);
        private readonly Vector256<float> _rest1 = Vector256.Create((float)(1 - settings.Beta1));
        private readonly Vector256<float> _decay2 = Vector256.Create((float)settings.Beta2);
        private readonly Vector256<float> _rest2 = Vector256.Create((float)(1 - settings.Beta2));
        private readonly Vector256<float> _root = Vector256.Create((float)root);
        private readonly Vector256<float> _epsilon = Vector256.Create((float)settings.Epsilon);
        private readonly Vector256<float> _size = Vector256.Create((float)size);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second)
        {
            first = (first * _decay1) + (gradient * _rest1);
            second = (second * _decay2) + (gradient * gradient * _rest2);
            weight = (weight * _decay) + (_size * first / ((Vector256.Sqrt(second) / _root) + _epsilon));
        }
    }
}

/// <summary>Hyperparameters of Adam.</summary>
/// <param name="Beta1">Decay rate of the first moment (mean of gradients).</param>
/// <param name="Beta2">Decay rate of the second moment (mean of squared gradients).</param>
/// <param name="Epsilon">Added to the denominator for numerical stability.</param>
/// <param name="WeightDecay">Weight decay; multiplied by the learning rate.</param>
public sealed record AdamSettings(double Beta1, double Beta2, double Epsilon, double WeightDecay);
