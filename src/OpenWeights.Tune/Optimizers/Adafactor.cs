using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Adafactor (Shazeer and Stern, 2018) as transformers has it. For a matrix only row and column means of the squared gradients are kept, so the
/// state is about a thousandth of Adam's. By default, as its Trainer configures it, the learning rate is used as given; it may be scaled by the
/// size of each parameter, or be derived from the step.
/// </summary>
internal sealed class Adafactor : ParameterOptimizer
{
    private const double LargestStep = 1e-2;
    private const double WarmupStep = 1e-6;
    private readonly AdafactorSettings _settings;
    private readonly double _weightDecay;
    private readonly Scalar _floor;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters.</param>
    /// <param name="weightDecay">Weight decay; multiplied by the learning rate.</param>
    /// <param name="memory">How state is stored.</param>
    public Adafactor(IEnumerable<TrainedParameter> parameters, AdafactorSettings settings, double weightDecay, OptimizerMemory memory = default)
        : base(parameters, memory, p => States(p, settings))
    {
        ArgumentNullException.ThrowIfNull(settings);
        (_settings, _weightDecay, _floor) = (settings, weightDecay, Keep(settings.Epsilon1));
    }

    /// <inheritdoc/>
    public override double NextRate(double scheduled) => !_settings.RelativeStep ? scheduled
        : Math.Min(_settings.WarmupInit ? WarmupStep * (StepCount + 1) : LargestStep, 1 / Math.Sqrt(StepCount + 1));

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var rest = Math.Pow(StepCount, _settings.DecayRate);
        using Scalar decay = 1 - rest, fresh = rest;
        var squares = gradient.square();
        var factored = weight.ndim >= 2;
        var update = factored ? Factored(slot, squares, decay, fresh) : slot[0].mul_(decay).add_(squares.add_(_floor, Scalars.One), fresh).rsqrt();
        _ = update.mul_(gradient);

        // Clips by the root mean square; computed on the device, without synchronizing a GPU, as is the parameter's size.
        using Scalar norm = _settings.ClipThreshold * Math.Sqrt(update.numel());
        var (size, clip) = (Size(weight), update.norm().div_(norm).clamp_min(Scalars.One).reciprocal());
        Shrink(slot, weight, size, rate);
        using Scalar step = -rate;
        var factor = size is null ? clip : clip.mul_(size);
        if (_settings.Beta1 is not { } beta1)
        {
            _ = weight.addcmul_(update, factor, step);
            return;
        }

        using Scalar keep = beta1, add = (1 - beta1) * rate, whole = -1;
        _ = weight.add_(slot[factored ? 2 : 1].mul_(keep).addcmul_(update, factor, add), whole);
    }

    private static StateShape[] States(TrainedParameter trained, AdafactorSettings settings)
    {
        var shape = trained.Parameter.shape;
        StateShape[] mean = settings.Beta1 is null ? [] : [new StateShape("exp_avg", shape)];
        return shape.Length < 2 ? [new("exp_avg_sq", shape), .. mean] : [new("exp_avg_sq_row", shape[..^1]), new("exp_avg_sq_col", [.. shape[..^2], shape[^1]]), .. mean];
    }

    // The root mean square of a parameter, a scalar on its device; null if rates do not depend on it.
    private Tensor? Size(Tensor weight)
    {
        if (!_settings.ScaleParameter)
        {
            return null;
        }

        using Scalar root = Math.Sqrt(weight.numel()), least = _settings.Epsilon2;
        return weight.norm().div_(root).clamp_min(least);
    }

    // Weight decay, in proportion to the size where rates are.
    private void Shrink(ParameterSlot slot, Tensor weight, Tensor? size, double rate)
    {
        if (size is null)
        {
            Decay(slot, weight, rate, _weightDecay);
        }
        else if (DecayOf(slot, _weightDecay) is var decay and not 0)
        {
            using Scalar part = -rate * decay;
            _ = weight.addcmul_(weight, size, part);
        }
    }

    // 1 / sqrt(row x column / mean of rows), from the row and column means of the squares.
    private Tensor Factored(ParameterSlot slot, Tensor squares, Scalar decay, Scalar fresh)
    {
        var row = slot[0].mul_(decay).add_(squares.mean([-1]).add_(_floor, Scalars.One), fresh);
        var column = slot[1].mul_(decay).add_(squares.mean([-2]).add_(_floor, Scalars.One), fresh);
        var rowFactor = row.div(row.mean([-1], keepdim: true)).rsqrt_().unsqueeze(-1);
        return rowFactor.mul(column.rsqrt().unsqueeze(-2));
    }
}

/// <summary>Hyperparameters of Adafactor.</summary>
/// <param name="Epsilon1">transformers: added to the squared gradients; torch: the least of their mean and root.</param>
/// <param name="Epsilon2">Least size of a parameter by which its rate is scaled.</param>
/// <param name="ClipThreshold">Largest root mean square of an update.</param>
/// <param name="DecayRate">Power of the step by which the second moment's decay rate approaches 1.</param>
internal sealed record AdafactorSettings(double Epsilon1, double Epsilon2, double ClipThreshold, double DecayRate)
{
    /// <summary>Decay rate of a mean of the updates; null for none.</summary>
    public double? Beta1 { get; init; }

    /// <summary>Whether the rate is scaled by the root mean square of each parameter.</summary>
    public bool ScaleParameter { get; init; }

    /// <summary>Whether the rate is derived from the step: min(0.01, 1 / sqrt(step)).</summary>
    public bool RelativeStep { get; init; }

    /// <summary>Whether the derived rate rises from 0, by 1e-6 per step.</summary>
    public bool WarmupInit { get; init; }
}
