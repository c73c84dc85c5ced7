using System.Runtime.Intrinsics;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Lion (Chen et al., 2023, algorithm 2): the update is the sign of an interpolation of momentum and gradient, with decoupled weight decay.
/// </summary>
internal sealed class Lion : ParameterOptimizer
{
    private readonly double _weightDecay;
    private readonly double _beta1;
    private readonly double _beta2;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="beta1">Weight of the momentum in the update's sign.</param>
    /// <param name="beta2">Decay rate of the momentum.</param>
    /// <param name="weightDecay">Weight decay; multiplied by the learning rate.</param>
    /// <param name="memory">How state is stored.</param>
    public Lion(IEnumerable<TrainedParameter> parameters, double beta1, double beta2, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, static p => [StateShape.Moment("exp_avg", p)])
    {
        (_weightDecay, _beta1, _beta2) = (weightDecay, beta1, beta2);
        (_decay1, _rest1, _decay2, _rest2) = (Keep(beta1), Keep(1 - beta1), Keep(beta2), Keep(1 - beta2));
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        using Scalar size = -rate;
        Decay(slot, weight, rate, _weightDecay);
        var direction = slot[0].mul(_decay1).add_(gradient, _rest1).sign();
        _ = weight.add_(direction, size);
        _ = slot[0].mul_(_decay2).add_(gradient, _rest2);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) =>
        FusedUpdate.Of(slot, weight, gradient, new Rule(_beta1, _beta2, DecayFactor(slot, rate, _weightDecay), rate));

    private readonly struct Rule(double beta1, double beta2, double decay, double rate) : IUpdateRule
    {
        private readonly Vector256<float> _decay1 = Vector256.Create((float)beta1);
        private readonly Vector256<float> _rest1 = Vector256.Create((float)(1 - beta1));
        private readonly Vector256<float> _decay2 = Vector256.Create((float)beta2);
        private readonly Vector256<float> _rest2 = Vector256.Create((float)(1 - beta2));
        private readonly Vector256<float> _decay = Vector256.Create((float)decay);
        private readonly Vector256<float> _rate = Vector256.Create((float)rate);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third)
        {
            var mean = (first * _decay1) + (gradient * _rest1);
            var up = Vector256.ConditionalSelect(Vector256.LessThan(mean, Vector256<float>.Zero), _rate, Vector256<float>.Zero);
            var down = Vector256.ConditionalSelect(Vector256.GreaterThan(mean, Vector256<float>.Zero), _rate, Vector256<float>.Zero);
            weight = (weight * _decay) + up - down;
            first = (first * _decay2) + (gradient * _rest2);
        }
    }
}
