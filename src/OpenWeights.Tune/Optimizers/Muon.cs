using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Muon (Jordan et al., 2024; torch.optim.Muon): the momentum of a hidden layer's matrix is replaced by the nearest orthogonal matrix, by some
/// Newton-Schulz iterations in bfloat16. Other parameters are updated with AdamW.
/// </summary>
internal sealed class Muon : ParameterOptimizer
{
    private readonly MuonSettings _settings;
    private readonly AdamUpdate _adam;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters of Muon.</param>
    /// <param name="adam">Those of AdamW for the other parameters.</param>
    /// <param name="weightDecay">Weight decay of the matrices; multiplied by the learning rate.</param>
    /// <param name="memory">How state is stored.</param>
    public Muon(IEnumerable<TrainedParameter> parameters, MuonSettings settings, AdamSettings adam, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, static p => p.IsHiddenMatrix ? [new StateShape("momentum_buffer", p.Parameter.shape)] : AdamUpdate.Moments(p))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(adam);
        (_settings, _adam, _weightDecay, AdamDecay) = (settings, Keep(new AdamUpdate(adam)), weightDecay, adam.WeightDecay);
    }

    private double AdamDecay { get; }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        if (!slot.Trained.IsHiddenMatrix)
        {
            _adam.Apply(weight, gradient, (slot[0], slot[1]), rate * _settings.AdamRateFactor, StepCount, DecayOf(slot, AdamDecay));
            return;
        }

        using Scalar keep = _settings.Momentum, rest = 1 - _settings.Momentum, size = -rate * Adjustment(weight.size(-2), weight.size(-1));
        var momentum = slot[0].mul_(keep).add_(gradient, rest);
        var direction = Orthogonal(_settings.Nesterov ? gradient.mul(rest).add_(momentum, keep) : momentum);
        Decay(slot, weight, rate, _weightDecay);
        _ = weight.add_(direction, size);
    }

    private protected override FusedUpdate? Fused(ParameterSlot slot, Tensor weight, Tensor gradient, double rate) => slot.Trained.IsHiddenMatrix ? null
        : _adam.Fused(slot, weight, gradient, rate * _settings.AdamRateFactor, StepCount, DecayOf(slot, AdamDecay));

    /// <summary>
    /// Approximates U Vᵀ of a matrix U S Vᵀ, or of each matrix of a stack: X = a X + (b X Xᵀ + c (X Xᵀ)²) X, repeated, from X of norm 1.
    /// </summary>
    internal Tensor Orthogonal(Tensor matrix)
    {
        using var scope = NewDisposeScope();
        using Scalar a = _settings.Coefficients[0], b = _settings.Coefficients[1], c = _settings.Coefficients[2], least = _settings.Epsilon;
        var turned = matrix.size(-2) > matrix.size(-1);
        var x = matrix.to(bfloat16);
        x = turned ? x.transpose(-2, -1) : x;
        x = x.div(x.flatten(-2).norm(-1, keepdim: true).unsqueeze(-1).clamp_min(least));
        for (var i = 0; i < _settings.Iterations; i++)
        {
            using var inner = NewDisposeScope();
            var gram = Product(x, x.transpose(-2, -1));
            var polynomial = gram.mul(b).add_(Product(gram.mul(c), gram));
            x = x.mul(a).add_(Product(polynomial, x)).MoveToOuterDisposeScope();
        }

        return (turned ? x.transpose(-2, -1) : x).to(matrix.dtype).MoveToOuterDisposeScope();
    }

    // A CPU without instructions for bfloat16 multiplies the same numbers in float32, whose sums are rounded alike.
    private static Tensor Product(Tensor left, Tensor right)
    {
        var type = ProductPrecision.Of(left, left.size(-2));
        return type == left.dtype ? left.matmul(right) : left.to(type).matmul(right.to(type)).to(left.dtype);
    }

    private double Adjustment(long rows, long columns) =>
        _settings.MatchesAdamW ? 0.2 * Math.Sqrt(Math.Max(rows, columns)) : Math.Sqrt(Math.Max(1, (double)rows / columns));
}

/// <summary>Hyperparameters of Muon.</summary>
/// <param name="Momentum">Decay rate of the momentum.</param>
/// <param name="Nesterov">Whether the current gradient is added once more (Nesterov momentum).</param>
/// <param name="Coefficients">Coefficients a, b and c of an iteration.</param>
/// <param name="Iterations">Number of Newton-Schulz iterations.</param>
/// <param name="Epsilon">Least norm by which a matrix is divided.</param>
/// <param name="MatchesAdamW">Whether the rate is adjusted to the size of AdamW's updates, 0.2 sqrt(max(rows, columns)) (Liu et al., 2025);
/// otherwise by sqrt(max(1, rows / columns)).</param>
/// <param name="AdamRateFactor">Factor of the learning rate of the parameters that AdamW updates.</param>
internal sealed record MuonSettings(double Momentum, bool Nesterov, IReadOnlyList<double> Coefficients, int Iterations, double Epsilon, bool MatchesAdamW, double AdamRateFactor);
