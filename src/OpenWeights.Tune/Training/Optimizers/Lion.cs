using System.Numerics;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>Lion (Chen et al., 2023, algorithm 2): steps of the rate's size in the sign of a mean of gradients, with decoupled weight decay.</summary>
public sealed class Lion : ParameterOptimizer
{
    private readonly double _weightDecay;
    private readonly double _beta1;
    private readonly double _beta2;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;

    /// <summary>An optimizer over parameters.</summary>
    /// <param name="parameters">What is trained.</param>
    /// <param name="beta1">How much of the mean goes into the step's sign.</param>
    /// <param name="beta2">The decay of the mean.</param>
    /// <param name="weightDecay">The decay of weights per unit of learning rate.</param>
    /// <param name="memory">What is held, and where.</param>
    public Lion(IEnumerable<TrainedParameter> parameters, double beta1, double beta2, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, static p => [("exp_avg", p.zeros_like(float32))])
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
        new RuleUpdate<Rule>(slot, weight, gradient, new Rule(_beta1, _beta2, DecayFactor(slot, rate, _weightDecay), rate));

    private readonly struct Rule(double beta1, double beta2, double decay, double rate) : IUpdateRule
    {
        private readonly Vector<float> _decay1 = new((float)beta1);
        private readonly Vector<float> _rest1 = new((float)(1 - beta1));
        private readonly Vector<float> _decay2 = new((float)beta2);
        private readonly Vector<float> _rest2 = new((float)(1 - beta2));
        private readonly Vector<float> _decay = new((float)decay);
        private readonly Vector<float> _rate = new((float)rate);

        public void Apply(ref Vector<float> weight, Vector<float> gradient, ref Vector<float> first, ref Vector<float> second)
        {
            var mean = (first * _decay1) + (gradient * _rest1);
            var up = Vector.ConditionalSelect(Vector.LessThan(mean, Vector<float>.Zero), _rate, Vector<float>.Zero);
            var down = Vector.ConditionalSelect(Vector.GreaterThan(mean, Vector<float>.Zero), _rate, Vector<float>.Zero);
            weight = (weight * _decay) + up - down;
            first = (first * _decay2) + (gradient * _rest2);
        }
    }
}
