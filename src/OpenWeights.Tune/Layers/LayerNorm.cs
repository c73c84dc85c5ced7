using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Projections;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>Layer normalization (Ba et al., 2016), with or without bias.</summary>
internal sealed class LayerNorm : Norm
{
    // Not a field of its own: it would be registered by field name.
    private readonly (WeightSlot Weight, WeightSlot? Bias) _slots;
    private readonly LayerNormSettings _settings;

    /// <summary>Creates a norm from its weights.</summary>
    /// <param name="weight">The weight, [features], or [heads, features] for weights of its own for each head.</param>
    /// <param name="bias">The bias, of the same shape, or null.</param>
    /// <param name="settings">Settings of the norm.</param>
    public LayerNorm(Parameter weight, Parameter? bias, LayerNormSettings settings)
        : base(nameof(LayerNorm))
    {
        ArgumentNullException.ThrowIfNull(settings);
        register_parameter("weight", weight);
        if (bias is not null)
        {
            register_parameter("bias", bias);
        }

        _settings = settings;
        _slots = (new WeightSlot("weight", weight), bias is null ? null : new WeightSlot("bias", bias));
    }

    /// <inheritdoc/>
    public override IReadOnlyList<WeightSlot> Slots => _slots.Bias is null ? [_slots.Weight] : [_slots.Weight, _slots.Bias];

    /// <summary>Settings of the norm.</summary>
    internal LayerNormSettings Settings => _settings;

    /// <summary>The weight in use.</summary>
    internal Tensor Scale => _slots.Weight.Current!;

    /// <summary>The bias in use, or null.</summary>
    internal Tensor? Bias => _slots.Bias?.Current;

    internal override LayerInput Before(Tensor states) => Bias is { } bias
        ? new ComputedInput(s => Normalize(s[0], s[1], s[2], _settings), states, Scale, bias)
        : new ComputedInput(s => Normalize(s[0], s[1], null, _settings), states, Scale);

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        return Normalize(input, Scale, Bias, _settings).MoveToOuterDisposeScope();
    }

    /// <summary>Normalizes states.</summary>
    /// <param name="input">The states, [..., features].</param>
    /// <param name="weight">The weight, [features] or [heads, features].</param>
    /// <param name="bias">The bias, [features], or null.</param>
    /// <param name="settings">Settings of the norm.</param>
    internal static Tensor Normalize(Tensor input, Tensor weight, Tensor? bias, LayerNormSettings settings)
    {
        var scale = settings.AddsOne ? weight.add(Scalars.One, Scalars.One) : weight;
        long[] features = [input.size(-1)];
        if (weight.ndim == 1 && !settings.ScalesBeforeRounding)
        {
            return nn.functional.layer_norm(input, features, scale, bias, settings.Epsilon);
        }

        var states = settings.ScalesBeforeRounding ? input.Widened() : input;
        return nn.functional.layer_norm(states, features, eps: settings.Epsilon).mul(scale.to(states.dtype)).to(input.dtype);
    }
}

/// <summary>Layer norms of heads, each a module of its own (StableLM 2).</summary>
internal sealed class HeadLayerNorms : Norm
{
    private readonly LayerNormSettings _settings;
    private readonly LayerNorm[] _norms;

    internal HeadLayerNorms(IReadOnlyList<LayerNorm> norms, LayerNormSettings settings)
        : base(nameof(HeadLayerNorms))
    {
        _settings = settings;
        _norms = [.. norms];
        for (var i = 0; i < norms.Count; i++)
        {
            _ = this.Register(FormattableString.Invariant($"norms.{i}"), norms[i]);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<WeightSlot> Slots => [];

    /// <summary>Settings of the norms.</summary>
    internal LayerNormSettings Settings => _settings;

    /// <summary>The weights in use, [heads, features], in the caller's dispose scope.</summary>
    internal Tensor Scale => stack([.. _norms.Select(static n => n.Scale)], 0);

    /// <inheritdoc/>
    public override Tensor forward(Tensor input)
    {
        using var scope = NewDisposeScope();
        return LayerNorm.Normalize(input, Scale, null, _settings).MoveToOuterDisposeScope();
    }
}

/// <summary>Settings of layer norms.</summary>
/// <param name="Epsilon">Added to the variance.</param>
/// <param name="HasBias">Whether there is a bias.</param>
/// <param name="AddsOne">Whether the scale is one plus the weight (Nemotron).</param>
/// <param name="ScalesBeforeRounding">Whether the scale is applied in float32, before the result is rounded to the model's dtype (Cohere).</param>
/// <param name="SplitsHeads">Whether norms of heads are a module for each head, and not one weight for all of them.</param>
internal sealed record LayerNormSettings(double Epsilon, bool HasBias = true, bool AddsOne = false, bool ScalesBeforeRounding = false, bool SplitsHeads = false) : NormSettings
{
    /// <inheritdoc/>
    public override Norm Take(IWeightSource weights, string name, Dimension features)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return new LayerNorm(
            weights.Take($"{name}.weight", AddsOne ? InitialWeight.Zeros : InitialWeight.Ones, features),
            HasBias ? weights.Take($"{name}.bias", InitialWeight.Zeros, features) : null,
            this);
    }

    /// <inheritdoc/>
    public override Norm TakeHeads(IWeightSource weights, string name, Dimension heads, Dimension features)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return SplitsHeads
            ? new HeadLayerNorms([.. Enumerable.Range(0, (int)heads.Size).Select(i => (LayerNorm)Take(weights, FormattableString.Invariant($"{name}.norms.{i}"), features))], this)
            : new LayerNorm(weights.Take($"{name}.weight", InitialWeight.Ones, heads, features), null, this);
    }
}
