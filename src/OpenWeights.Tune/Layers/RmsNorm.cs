using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>RMS normalization (Zhang and Sennrich, 2019), computed in float32 for every dtype of the model but float64.</summary>
internal sealed class RmsNorm : Norm
{
    [ComponentName(Name = "weight")]
    private readonly Parameter? _weight;

    private readonly WeightSlot? _slot;
    private readonly long _features;
    private readonly Scalar _epsilon;
    private readonly RmsNormSettings _settings;

    /// <summary>Creates a norm from its weight.</summary>
    /// <param name="weight">The weight, [features].</param>
    /// <param name="settings">Settings of the norm.</param>
    public RmsNorm(Parameter weight, RmsNormSettings settings)
        : base(nameof(RmsNorm))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weight);
        _weight = weight;
        _slot = new WeightSlot("weight", _weight);
        _features = weight.size(-1);
        _epsilon = settings.Epsilon;
        _settings = settings;
        RegisterComponents();
    }

    /// <summary>Creates a norm without a weight.</summary>
    /// <param name="features">The width of what is normalised.</param>
    /// <param name="settings">Settings of the norm.</param>
    public RmsNorm(long features, RmsNormSettings settings)
        : base(nameof(RmsNorm))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _features = features;
        _epsilon = settings.Epsilon;
        _settings = settings;
    }

    /// <inheritdoc/>
    public override IReadOnlyList<WeightSlot> Slots => _slot is null ? [] : [_slot];

    /// <summary>Settings of the norm.</summary>
    internal RmsNormSettings Settings => _settings;

    /// <summary>Width of what is normalised.</summary>
    internal nint Features => (nint)_features;

    /// <summary>The weight in use, [features]; null if there is none.</summary>
    internal Tensor? Scale => _slot?.Current;

    internal override LayerInput Before(Tensor states)
    {
        var scale = ScaleFor(states);
        return FusedRmsNorm.Serves(states, scale) ? new NormedInput(states, scale, _settings) : new PlainInput(call(states));
    }

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        var weight = ScaleFor(input);
        if (FusedRmsNorm.Serves(input, weight))
        {
            return FusedRmsNorm.Of(input, weight, _settings).MoveToOuterDisposeScope();
        }

        var states = input.Widened();
        var inverse = states.mul(states).mean([-1], keepdim: true).add_(_epsilon, Scalars.One).rsqrt_();
        var scaled = states.mul(inverse);
        if (!_settings.ScalesBeforeRounding)
        {
            return scaled.to(input.dtype).mul(weight).MoveToOuterDisposeScope();
        }

        var scale = weight.Widened();
        return scaled.mul(_settings.AddsOne ? scale.add(Scalars.One, Scalars.One) : scale).to(input.dtype).MoveToOuterDisposeScope();
    }

    // Ones where there is no weight, in the caller's dispose scope.
    private Tensor ScaleFor(Tensor states) => Scale ?? ones([_features], states.dtype, states.device);

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

/// <summary>Settings of RMS norms.</summary>
/// <param name="Epsilon">Added to the mean square.</param>
/// <param name="AddsOne">Whether the scale is one plus the weight.</param>
/// <param name="ScalesBeforeRounding">Whether the scale is applied in float32, before the result is rounded to the model's dtype.</param>
/// <param name="HasWeight">Whether there is a weight; otherwise nothing is scaled.</param>
internal sealed record RmsNormSettings(double Epsilon, bool AddsOne = false, bool ScalesBeforeRounding = false, bool HasWeight = true) : NormSettings
{
    /// <inheritdoc/>
    public override Norm Take(IWeightSource weights, string name, Dimension features)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return !HasWeight ? new RmsNorm(features.Size, this) : new RmsNorm(weights.Take($"{name}.weight", AddsOne ? InitialWeight.Zeros : InitialWeight.Ones, features), this);
    }
}
