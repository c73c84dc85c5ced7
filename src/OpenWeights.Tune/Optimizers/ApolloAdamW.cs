using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// APOLLO (Zhu et al., 2024; apollo-torch's AdamW): the gradient of a hidden layer's matrix is scaled, per row or column or as a whole
/// (APOLLO-Mini, rank 1), by the ratio of Adam's update to the gradient, both after a projection to a low rank. The norm of the scaled gradient
/// grows by at most 1 % per step (Chen et al., 2024). Other parameters are updated with AdamW.
/// </summary>
internal sealed class ApolloAdamW : ParameterOptimizer
{
    private const string NormName = "scaled_grad";
    private static readonly Scalar s_least = 1e-8;
    private static readonly Scalar s_growth = 1.01;
    private readonly GradientProjector _projector;
    private readonly AdamUpdate _adam;
    private readonly bool _scalesAsWhole;
    private readonly double _scale;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="adam">Hyperparameters of Adam.</param>
    /// <param name="projection">How gradients are projected; not from both sides.</param>
    /// <param name="scalesAsWhole">Whether a matrix has one factor (scale_type tensor) instead of one per row or column (channel).</param>
    /// <param name="memory">How state is stored.</param>
    public ApolloAdamW(IEnumerable<TrainedParameter> parameters, AdamSettings adam, ProjectionSettings projection, bool scalesAsWhole, OptimizerMemory memory = default)
        : base(parameters, memory, p => p.IsHiddenMatrix ? States(p, projection) : AdamUpdate.Moments(p))
    {
        ArgumentNullException.ThrowIfNull(adam);
        ArgumentNullException.ThrowIfNull(projection);
        (_projector, _adam, _scalesAsWhole) = (new GradientProjector(projection), Keep(new AdamUpdate(adam, asTransformers: true)), scalesAsWhole);
        (_scale, _weightDecay) = (Math.Sqrt(projection.Scale), adam.WeightDecay);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        if (!slot.Trained.IsHiddenMatrix)
        {
            _adam.Apply(weight, gradient, (slot[0], slot[1]), rate, StepCount, DecayOf(slot, _weightDecay));
            return;
        }

        using Scalar size = -_adam.Size(rate, StepCount) * _scale;
        var low = _projector.Project(slot, gradient, StepCount);
        var normalized = _adam.Normalized(low, (slot[0], slot[1]), StepCount);
        var scaled = gradient.mul(Norms(normalized, gradient).div_(Norms(low, gradient).add_(s_least)));
        _ = weight.add_(Limited(scaled, slot[3]), size);
        Decay(slot, weight, rate, _weightDecay);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => slot.Trained.IsHiddenMatrix ? null
        : _adam.Fused(slot, weight, gradient, rate, StepCount, DecayOf(slot, _weightDecay));

    private static StateShape[] States(TrainedParameter trained, ProjectionSettings settings) =>
        [.. GradientProjector.States(trained, settings), new StateShape(NormName, [.. trained.Parameter.shape[..^2], 1, 1])];

    // Norms of a projected gradient along its low rank, or as a whole, in a shape that scales the gradient.
    private Tensor Norms(Tensor low, Tensor gradient) =>
        _scalesAsWhole ? WholeNorm(low) : low.norm(_projector.KeepsRows(gradient) ? -1 : -2, keepdim: true);

    private static Tensor WholeNorm(Tensor matrix) => matrix.flatten(-2).norm(-1, keepdim: true).unsqueeze(-1);

    // Limits the norm to 1.01 times the last one, which is 0 before the first gradient.
    private static Tensor Limited(Tensor scaled, Tensor lastNorm)
    {
        var norm = WholeNorm(scaled);
        var limiter = norm.div(lastNorm.add(s_least)).clamp_min(s_growth).div_(s_growth);
        limiter = where(lastNorm.gt(Scalars.Zero), limiter, limiter.ones_like());
        _ = lastNorm.copy_(norm.div_(limiter));
        return scaled.div_(limiter);
    }
}
