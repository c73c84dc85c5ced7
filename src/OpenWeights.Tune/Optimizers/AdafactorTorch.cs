using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adafactor (Shazeer and Stern, 2018) as torch.optim.Adafactor: the rate is at most 1 / sqrt(step) and scaled by the size of each parameter, and
/// epsilon limits the second moment from below instead of being added to it.
/// </summary>
internal sealed class AdafactorTorch : ParameterOptimizer
{
    private readonly AdafactorSettings _settings;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters; rates are always scaled by the parameters' sizes.</param>
    /// <param name="weightDecay">Weight decay; multiplied by the learning rate.</param>
    /// <param name="memory">How state is stored.</param>
    public AdafactorTorch(IEnumerable<TrainedParameter> parameters, AdafactorSettings settings, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, States)
    {
        ArgumentNullException.ThrowIfNull(settings);
        (_settings, _weightDecay) = (settings, weightDecay);
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var rest = Math.Pow(StepCount, _settings.DecayRate);
        using Scalar root = Math.Sqrt(weight.numel()), decay = 1 - rest, fresh = rest, smallest = _settings.Epsilon2, least = _settings.Epsilon1 * _settings.Epsilon1;
        using Scalar clip = _settings.ClipThreshold * Math.Sqrt(weight.numel()), step = -Math.Min(rate, 1 / Math.Sqrt(StepCount));
        var size = weight.norm().div_(root).clamp_min(smallest);
        Decay(slot, weight, rate, _weightDecay);
        var squares = gradient.square();
        var variance = slot.StateCount == 2 ? Factored(slot, squares, decay, fresh) : slot[0].mul_(decay).add_(squares, fresh);
        var update = variance.clamp_min(least).rsqrt_().mul_(gradient);
        _ = weight.addcmul_(update, size.div_(update.norm().div_(clip).clamp_min(Scalars.One)), step);
    }

    private static StateShape[] States(TrainedParameter trained)
    {
        var shape = trained.Parameter.shape;
        return shape.Length < 2 ? [new("variance", shape)] : [new("row_var", [.. shape[..^1], 1]), new("col_var", [.. shape[..^2], 1, shape[^1]])];
    }

    // Row x column / mean of rows.
    private Tensor Factored(ParameterSlot slot, Tensor squares, Scalar decay, Scalar fresh)
    {
        using Scalar least = _settings.Epsilon1;
        var row = slot[0].mul_(decay).add_(squares.mean([-1], keepdim: true), fresh);
        var column = slot[1].mul_(decay).add_(squares.mean([-2], keepdim: true), fresh);
        return row.div(row.mean([-2], keepdim: true).clamp_min(least)).matmul(column);
    }
}
