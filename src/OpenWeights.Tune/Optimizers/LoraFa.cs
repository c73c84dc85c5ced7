using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// LoRA-FA (Zhang et al., 2023; PEFT's LoraFAOptimizer): A is frozen, and B's gradient is multiplied by (A Aᵀ)⁻¹ / s² before AdamW, so that s B A
/// approximates a step on the weight itself. Other parameters are updated with AdamW.
/// </summary>
internal sealed class LoraFa : ParameterOptimizer
{
    // Added to the diagonal before the inversion, as in PEFT.
    private const double Damping = 1e-8;
    private readonly AdamUpdate _adam;
    private readonly double _weightDecay;
    private readonly Dictionary<ParameterSlot, Tensor> _inverses = [];

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train: B, without A, of low-rank updates, and others.</param>
    /// <param name="adam">Hyperparameters of Adam.</param>
    /// <param name="memory">How state is stored.</param>
    public LoraFa(IEnumerable<TrainedParameter> parameters, AdamSettings adam, OptimizerMemory memory = default)
        : base(parameters, memory, AdamUpdate.Moments)
    {
        ArgumentNullException.ThrowIfNull(adam);
        (_adam, _weightDecay) = (Keep(new AdamUpdate(adam, asTransformers: true)), adam.WeightDecay);
    }

    /// <inheritdoc/>
    public override void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        // A has been restored as well.
        Forget();
        base.Restore(has, read);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var preconditioned = slot.Trained.Pair is { IsUp: true } pair ? gradient.matmul(Inverse(slot, pair, gradient.device)) : gradient;
        _adam.Apply(weight, preconditioned, (slot[0], slot[1]), rate, StepCount, DecayOf(slot, _weightDecay));
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => slot.Trained.Pair is { IsUp: true } ? null
        : _adam.Fused(slot, weight, gradient, rate, StepCount, DecayOf(slot, _weightDecay));

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
        }

        base.Dispose(disposing);
    }

    // (A Aᵀ)⁻¹ / s², [rank, rank]; A does not change.
    private Tensor Inverse(ParameterSlot slot, LowRankPair pair, Device device)
    {
        if (!_inverses.TryGetValue(slot, out var inverse))
        {
            using var scope = NewDisposeScope();
            using Scalar factor = 1 / (pair.Scale * pair.Scale);
            var a = pair.Other.detach().to(float32);
            inverse = LowRankGram.Inverses([a.matmul(a.transpose(-2, -1))], Damping)[0].mul(factor).to(device).DetachFromDisposeScope();
            _inverses.Add(slot, inverse);
        }

        return inverse;
    }

    private void Forget()
    {
        foreach (var inverse in _inverses.Values)
        {
            inverse.Dispose();
        }

        _inverses.Clear();
    }
}
