namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>Settings of linear attention by the gated delta rule.</summary>
internal sealed record GatedDeltaNetSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "linear_attn";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of heads of queries and keys.</summary>
    public required Dimension KeyHeads { get; init; }

    /// <summary>Number of heads of values, a multiple of <see cref="KeyHeads"/>.</summary>
    public required Dimension ValueHeads { get; init; }

    /// <summary>Width of a head of queries and keys.</summary>
    public required Dimension KeyWidth { get; init; }

    /// <summary>Width of a head of values.</summary>
    public required Dimension ValueWidth { get; init; }

    /// <summary>Kernel size of the convolution of queries, keys and values.</summary>
    public required Dimension Kernel { get; init; }

    /// <summary>Epsilon of the norm of the output.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>Which layers compute the inputs of the delta rule.</summary>
    public required DeltaProjections Projections { get; init; }

    /// <summary>Whether beta is up to 2 and not 1, so that the transition matrices may have negative eigenvalues (Grazzi et al., 2024).</summary>
    public bool AllowsNegativeEigenvalues { get; init; }

    /// <summary>Width of queries, and of keys, of all heads.</summary>
    internal Dimension Keys => Product(KeyHeads, KeyWidth);

    /// <summary>Width of the values of all heads.</summary>
    internal Dimension Values => Product(ValueHeads, ValueWidth);

    internal override MixerNeeds Needs => new() { Restarts = true };

    internal override TokenMixer Make(IWeightSource weights, string name) => new GatedDeltaNet(this, weights, name);

    /// <summary>A width that is the product of two settings.</summary>
    internal static Dimension Product(Dimension left, Dimension right) => new($"{left.Setting} x {right.Setting}", left.Size * right.Size);
}

/// <summary>Which layers compute the inputs of the delta rule, as the families name them.</summary>
internal enum DeltaProjections
{
    /// <summary>in_proj_qkvz and in_proj_ba, whose outputs are ordered by key head (Qwen3-Next).</summary>
    ByHead,

    /// <summary>in_proj_qkv, in_proj_z, in_proj_b and in_proj_a (Qwen 3.5).</summary>
    ByUse,

    /// <summary>q_proj, k_proj, v_proj, g_proj, b_proj and a_proj (OLMo Hybrid).</summary>
    Separate,

    /// <summary>
    /// q_proj, k_proj, v_proj and b_proj, and for the decay of each channel and for the gate two small layers each, one after the other; the gate is a
    /// sigmoid (Kimi Linear).
    /// </summary>
    PerChannel,
}
