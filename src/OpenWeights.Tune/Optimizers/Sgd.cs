using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Stochastic gradient descent with momentum, as torch.optim.SGD: weight decay is added to the gradient (L2 regularization).
/// </summary>
internal sealed class Sgd : ParameterOptimizer
{
    private readonly double _momentum;
    private readonly Scalar _keep;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="momentum">Momentum factor; 0 for plain SGD, which has no state.</param>
    /// <param name="weightDecay">Weight decay coefficient.</param>
    /// <param name="memory">How state is stored.</param>
    public Sgd(IEnumerable<TrainedParameter> parameters, double momentum, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, p => momentum == 0 ? [] : [StateShape.Moment("momentum_buffer", p)])
    {
        (_momentum, _weightDecay, _keep) = (momentum, weightDecay, Keep(momentum));
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        using Scalar decay = _weightDecay;
        using Scalar size = -rate;
        var step = slot.Trained.Decays && _weightDecay != 0 ? gradient.add(weight, decay) : gradient;
        if (_momentum != 0)
        {
            step = slot[0].mul_(_keep).PlusInPlace(step);
        }

        _ = weight.add_(step, size);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) =>
        FusedUpdate.Of(slot, weight, gradient, new Rule(_momentum, slot.Trained.Decays ? _weightDecay : 0, rate));

    private readonly struct Rule(double momentum, double weightDecay, double rate) : IUpdateRule
    {
        private readonly Vector256<float> _momentum = Vector256.Create((float)momentum);
        private readonly Vector256<float> _weightDecay = Vector256.Create((float)weightDecay);
        private readonly Vector256<float> _rate = Vector256.Create((float)rate);

        public void Apply(ref Vector256<float> weight, Vector256<float> gradient, ref Vector256<float> first, ref Vector256<float> second, ref Vector256<float> third)
        {
            // Without momentum there is no state; the update is the gradient itself.
            first = (first * _momentum) + gradient + (weight * _weightDecay);
            weight -= first * _rate;
        }
    }
}
