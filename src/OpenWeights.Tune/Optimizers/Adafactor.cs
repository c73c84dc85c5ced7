using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adafactor (Shazeer and Stern, 2018) as configured by transformers' Trainer (scale_parameter and relative_step off). For a matrix only
/// row and column means of the squared gradients are kept, so the state is about a thousandth of Adam's. The learning rate is used as
/// given.
/// </summary>
public sealed class Adafactor : ParameterOptimizer
{
    private const double DecayRate = -0.8;
    private const double ClipThreshold = 1.0;
    private static readonly Scalar s_floor = 1e-30;
    private readonly double _weightDecay;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="weightDecay">Weight decay; multiplied by the learning rate.</param>
    /// <param name="memory">How state is stored.</param>
    public Adafactor(IEnumerable<TrainedParameter> parameters, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, States) => _weightDecay = weightDecay;

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var rest = Math.Pow(StepCount, DecayRate);
        using Scalar decay = 1 - rest;
        using Scalar fresh = rest;
        var squares = gradient.square().add_(s_floor, Scalars.One);
        var update = slot.StateCount == 2 ? Factored(slot, squares, decay, fresh) : slot[0].mul_(decay).add_(squares, fresh).rsqrt();
        _ = update.mul_(gradient);

        // Clips by the root mean square; computed on the device, without synchronizing a GPU.
        using Scalar norm = ClipThreshold * Math.Sqrt(update.numel());
        _ = update.div_(update.norm().div_(norm).clamp_min(Scalars.One));
        using Scalar size = -rate;
        Decay(slot, weight, rate, _weightDecay);
        _ = weight.add_(update, size);
    }

    // 1 / sqrt(row x column / mean of rows), from the row and column means of the squares.
    private static Tensor Factored(ParameterSlot slot, Tensor squares, Scalar decay, Scalar fresh)
    {
        var row = slot[0].mul_(decay).add_(squares.mean([-1]), fresh);
        var column = slot[1].mul_(decay).add_(squares.mean([-2]), fresh);
        var rowFactor = row.div(row.mean([-1], keepdim: true)).rsqrt_().unsqueeze(-1);
        return rowFactor.mul(column.rsqrt().unsqueeze(-2));
    }

    private static (string, Tensor)[] States(Tensor parameter)
    {
        var shape = parameter.shape;
        return shape.Length < 2
            ? [("exp_avg_sq", parameter.zeros_like(float32))]
            : [
                ("exp_avg_sq_row", zeros([.. shape[..^1]], float32, parameter.device)),
                ("exp_avg_sq_col", zeros([.. shape[..^2], shape[^1]], float32, parameter.device)),
            ];
    }
}
