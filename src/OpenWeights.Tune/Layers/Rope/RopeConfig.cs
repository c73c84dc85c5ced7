namespace OpenWeights.Tune.Layers.Rope;

/// <summary>Settings of the rotary position embedding, from config.json's rope_theta and rope_scaling (or rope_parameters).</summary>
internal sealed record RopeConfig
{
    /// <summary>Base of the frequencies, rope_theta.</summary>
    public double Theta { get; init; } = 10000;

    /// <summary>Scaling type.</summary>
    public RopeKind Kind { get; init; } = RopeKind.Default;

    /// <summary>Scaling factor; 1 for none.</summary>
    public double Factor { get; init; } = 1;

    /// <summary>Original context length, in tokens, for which the frequencies were trained.</summary>
    public double OriginalMaxPositions { get; init; }

    /// <summary>Llama 3: wavelengths above original context / this are divided by the full factor.</summary>
    public double LowFrequencyFactor { get; init; } = 1;

    /// <summary>Llama 3: wavelengths below original context / this are unchanged.</summary>
    public double HighFrequencyFactor { get; init; } = 4;

    /// <summary>YaRN: number of rotations within the original context above which a dimension is unchanged (beta_fast).</summary>
    public double BetaFast { get; init; } = 32;

    /// <summary>YaRN: number of rotations below which a dimension is divided by the full factor (beta_slow).</summary>
    public double BetaSlow { get; init; } = 1;

    /// <summary>YaRN: whether the bounds between the two are rounded to whole dimensions.</summary>
    public bool Truncate { get; init; } = true;

    /// <summary>
    /// YaRN and LongRoPE: factor of cos and sin (attention_factor); null for 0.1 ln(factor) + 1 (YaRN) or sqrt(1 + ln(factor) / ln(original
    /// context)) (LongRoPE).
    /// </summary>
    public double? AttentionFactor { get; init; }

    /// <summary>LongRoPE: factors of each pair's wavelength for texts within the original context (short_factor).</summary>
    public IReadOnlyList<double> ShortFactors { get; init; } = [];

    /// <summary>LongRoPE: factors for longer texts (long_factor).</summary>
    public IReadOnlyList<double> LongFactors { get; init; } = [];

    /// <summary>LongRoPE in Phi-3.5-MoE: factors of cos and sin for texts within the original context and for longer ones (short_mscale, long_mscale).</summary>
    public (double Short, double Long)? LengthScales { get; init; }

    /// <summary>Fraction of a head's dimensions that are rotated, from the first (partial_rotary_factor).</summary>
    public double RotatedShare { get; init; } = 1;

    /// <summary>Fraction of the rotated pairs whose frequency is not 0, from the first; for <see cref="RopeKind.Proportional"/>.</summary>
    public double TurnedShare { get; init; } = 1;

    /// <summary>
    /// Whether the rotated pairs of dimensions are neighbours (2i and 2i + 1), as in Cohere and GLM, and not half of the rotated dimensions
    /// apart. Rotated heads are put into the order of the latter, which changes no score.
    /// </summary>
    public bool Interleaved { get; init; }

    /// <summary>Whether heads are rotated in the opposite direction (nanochat).</summary>
    public bool IsReversed { get; init; }

    /// <summary>Whether the frequencies depend on the length of the text.</summary>
    public bool DependsOnLength => Kind is RopeKind.Dynamic or RopeKind.LongRope;

    /// <summary>Whether texts of two lengths, in tokens, use the same frequencies.</summary>
    public bool AreSame(long length, long otherLength) => Kind switch
    {
        RopeKind.Dynamic => Math.Max(length, OriginalMaxPositions) == Math.Max(otherLength, OriginalMaxPositions),
        RopeKind.LongRope => length > OriginalMaxPositions == otherLength > OriginalMaxPositions,
        _ => true,
    };
}

/// <summary>Scaling of rotary frequencies for contexts longer than the original one.</summary>
internal enum RopeKind
{
    /// <summary>No scaling (Su et al., RoFormer, 2021).</summary>
    Default,

    /// <summary>Linear: positions are divided by a factor (position interpolation, Chen et al., 2023).</summary>
    Linear,

    /// <summary>Dynamic NTK: the base grows with the sequence length beyond the original context.</summary>
    Dynamic,

    /// <summary>Llama 3.1: long wavelengths are divided by a factor, short ones unchanged, those between interpolated.</summary>
    Llama3,

    /// <summary>YaRN (Peng et al., 2023): interpolated by dimension, with scaled attention.</summary>
    Yarn,

    /// <summary>Frequencies as of whole heads, but 0 for all but the first pairs (Gemma 4).</summary>
    Proportional,

    /// <summary>
    /// LongRoPE (Ding et al., 2024): separate factors for each pair of dimensions, for texts within and beyond the original context.
    /// </summary>
    LongRope,
}
