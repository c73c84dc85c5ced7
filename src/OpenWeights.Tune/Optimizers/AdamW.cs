using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), in PyTorch's order of operations. Moments are float32 for every parameter
/// dtype, or 8-bit codes (<see cref="OptimizerMemory.CodedFrom"/>, bitsandbytes' AdamW8bit).
/// </summary>
internal sealed class AdamW : ParameterOptimizer
{
    private readonly AdamUpdate _update;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters.</param>
    /// <param name="memory">How state is stored.</param>
    public AdamW(IEnumerable<TrainedParameter> parameters, AdamSettings settings, OptimizerMemory memory = default)
        : base(parameters, memory, AdamUpdate.Moments)
    {
        ArgumentNullException.ThrowIfNull(settings);
        (_update, _weightDecay) = (Keep(new AdamUpdate(settings)), settings.WeightDecay);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        _update.Apply(weight, gradient, (slot[0], slot[1]), rate, StepCount, DecayOf(slot, _weightDecay));
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) =>
        _update.Fused(slot, weight, gradient, rate, StepCount, DecayOf(slot, _weightDecay));
}
