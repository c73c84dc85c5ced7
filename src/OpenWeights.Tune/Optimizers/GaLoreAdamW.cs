using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// GaLore (Zhao et al., 2024; galore-torch's AdamW): the gradient of a hidden layer's matrix is projected to a low rank by its singular vectors,
/// where Adam's moments are kept, and the update is projected back. Other parameters are updated with AdamW.
/// </summary>
internal sealed class GaLoreAdamW : ParameterOptimizer
{
    private readonly GradientProjector _projector;
    private readonly AdamUpdate _adam;
    private readonly double _scale;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="adam">Hyperparameters of Adam.</param>
    /// <param name="projection">How gradients are projected.</param>
    /// <param name="memory">How state is stored.</param>
    public GaLoreAdamW(IEnumerable<TrainedParameter> parameters, AdamSettings adam, ProjectionSettings projection, OptimizerMemory memory = default)
        : base(parameters, memory, p => p.IsHiddenMatrix ? GradientProjector.States(p, projection) : AdamUpdate.Moments(p))
    {
        ArgumentNullException.ThrowIfNull(adam);
        ArgumentNullException.ThrowIfNull(projection);
        (_projector, _adam) = (new GradientProjector(projection), Keep(new AdamUpdate(adam, asTransformers: true)));
        (_scale, _weightDecay) = (projection.Scale, adam.WeightDecay);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        if (!slot.Trained.IsHiddenMatrix)
        {
            _adam.Apply(weight, gradient, (slot[0], slot[1]), rate, StepCount, DecayOf(slot, _weightDecay));
            return;
        }

        using Scalar size = -_adam.Size(rate, StepCount) * _scale;
        var low = _adam.Normalized(_projector.Project(slot, gradient, StepCount), (slot[0], slot[1]), StepCount);
        _ = weight.add_(_projector.Back(slot, low), size);
        Decay(slot, weight, rate, _weightDecay);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => slot.Trained.IsHiddenMatrix ? null
        : _adam.Fused(slot, weight, gradient, rate, StepCount, DecayOf(slot, _weightDecay));
}
