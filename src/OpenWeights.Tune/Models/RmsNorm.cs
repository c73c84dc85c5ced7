using OpenWeights.Tune.Models.Projections;
using OpenWeights.Tune.Models.Steps;
using OpenWeights.Tune.Torch;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Root mean square normalisation (Zhang and Sennrich, 2019), computed in float32 whatever the dtype of the model.</summary>
public sealed class RmsNorm : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    private readonly WeightSlot _slot;
    private readonly Scalar _epsilon;
    private readonly NormSettings _settings;

    /// <summary>A norm around its weight.</summary>
    /// <param name="weight">The scale, [features].</param>
    /// <param name="config">How norms compute.</param>
    public RmsNorm(Parameter weight, DecoderConfig config)
        : base(nameof(RmsNorm))
    {
        ArgumentNullException.ThrowIfNull(config);
        _weight = weight;
        _slot = new WeightSlot("weight", _weight);
        _epsilon = config.NormEpsilon;
        _settings = new NormSettings(config.NormEpsilon, config.NormAddsOne, config.NormScalesBeforeRounding);
        RegisterComponents();
    }

    /// <summary>Takes a norm's weight from a source.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The norm's name, without .weight.</param>
    /// <param name="features">The width of what is normalised.</param>
    /// <param name="config">How norms compute.</param>
    public static RmsNorm Take(IWeightSource weights, string name, Dimension features, DecoderConfig config)
    {
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(config);
        return new RmsNorm(weights.Take($"{name}.weight", config.NormAddsOne ? InitialWeight.Zeros : InitialWeight.Ones, features), config);
    }

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => [_slot];

    /// <summary>What layers read after the norm: states that are normalised again in backward where that can be done, else kept.</summary>
    /// <param name="states">[..., features].</param>
    internal LayerInput Before(Tensor states) =>
        FusedRmsNorm.Serves(states, _slot.Current!) ? new NormedInput(states, _slot.Current!, _settings) : new PlainInput(call(states));

    /// <summary>The norm for single rows on the CPU.</summary>
    internal StepNorm Step()
    {
        var scale = StepNumbers.Of(_slot.Current!);
        for (var i = 0; _settings.AddsOne && i < scale.Count; i++)
        {
            scale.Span[i] += 1;
        }

        return new StepNorm(scale, _settings);
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (FusedRmsNorm.Serves(input, _slot.Current!))
        {
            return FusedRmsNorm.Of(input, _slot.Current!, _settings);
        }

        using var scope = NewDisposeScope();
        var states = input.to(float32);
        var inverse = states.mul(states).mean([-1], keepdim: true).add_(_epsilon, Scalars.One).rsqrt_();
        var scaled = states.mul(inverse);
        if (!_settings.ScalesBeforeRounding)
        {
            return scaled.to(input.dtype).mul(_slot.Current!).MoveToOuterDisposeScope();
        }

        var scale = _slot.Current!.to(float32);
        return scaled.mul(_settings.AddsOne ? scale.add(Scalars.One, Scalars.One) : scale).to(input.dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _epsilon.Dispose();
        }

        base.Dispose(disposing);
    }
}
