using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Riemannian preconditioned LoRA (Zhang and Pilanci, 2024; PEFT's create_riemannian_optimizer): the gradients of A and B are multiplied by
/// (Bᵀ B + reg I)⁻¹ and (A Aᵀ + reg I)⁻¹ before AdamW. Other parameters are updated with AdamW.
/// </summary>
internal sealed class RiemannianAdamW : ParameterOptimizer
{
    private readonly AdamUpdate _adam;
    private readonly double _damping;
    private readonly double _weightDecay;
    private readonly Dictionary<ParameterSlot, Tensor> _inverses = [];

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="adam">Hyperparameters of Adam.</param>
    /// <param name="damping">Added to the diagonal before the inversion, reg.</param>
    /// <param name="memory">How state is stored.</param>
    public RiemannianAdamW(IEnumerable<TrainedParameter> parameters, AdamSettings adam, double damping, OptimizerMemory memory = default)
        : base(parameters, memory, AdamUpdate.Moments)
    {
        ArgumentNullException.ThrowIfNull(adam);
        (_adam, _damping, _weightDecay) = (Keep(new AdamUpdate(adam)), damping, adam.WeightDecay);
    }

    /// <inheritdoc/>
    /// <remarks>All inverses are those of the matrices before the step; they are in the step's dispose scope.</remarks>
    protected override void BeforeStep(double learningRate, double gradientScale)
    {
        _inverses.Clear();
        ParameterSlot[] paired = [.. Slots.Where(static s => IsPaired(s) && s.Trained.Parameter.grad is not null)];
        foreach (var (slot, inverse) in paired.Zip(LowRankGram.Inverses([.. paired.Select(static s => Gram(s.Trained.Pair!))], _damping)))
        {
            _inverses.Add(slot, inverse);
        }
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var direction = gradient;
        if (_inverses.TryGetValue(slot, out var found))
        {
            var inverse = found.to(gradient.device);
            direction = slot.Trained.Pair!.IsUp ? gradient.matmul(inverse) : inverse.matmul(gradient);
        }

        _adam.Apply(weight, direction, (slot[0], slot[1]), rate, StepCount, DecayOf(slot, _weightDecay));
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => _inverses.ContainsKey(slot) ? null
        : _adam.Fused(slot, weight, gradient, rate, StepCount, DecayOf(slot, _weightDecay));

    // PEFT leaves the updates of embeddings as they are.
    private static bool IsPaired(ParameterSlot slot) => slot.Trained.Pair is { IsEmbedding: false };

    // Of the other matrix: A Aᵀ for B, Bᵀ B for A.
    private static Tensor Gram(LowRankPair pair)
    {
        using var scope = NewDisposeScope();
        var other = pair.Other.detach().to(float32);
        return (pair.IsUp ? other.mm(other.t()) : other.t().mm(other)).MoveToOuterDisposeScope();
    }
}
