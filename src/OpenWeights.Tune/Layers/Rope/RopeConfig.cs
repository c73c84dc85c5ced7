namespace OpenWeights.Tune.Layers.Rope;

/// <summary>Rotary position embedding, as config.json's rope_theta and rope_scaling (or rope_parameters) give it.</summary>
public sealed record RopeConfig
{
    /// <summary>The base of the frequencies, rope_theta.</summary>
    public double Theta { get; init; } = 10000;

    /// <summary>How frequencies are stretched.</summary>
    public RopeKind Kind { get; init; } = RopeKind.Default;

    /// <summary>The stretching factor; 1 where there is none.</summary>
    public double Factor { get; init; } = 1;

    /// <summary>The context length that the frequencies were made for, in tokens.</summary>
    public double OriginalMaxPositions { get; init; }

    /// <summary>Llama 3: wavelengths above original / this are divided by the whole factor.</summary>
    public double LowFrequencyFactor { get; init; } = 1;

    /// <summary>Llama 3: wavelengths below original / this stay.</summary>
    public double HighFrequencyFactor { get; init; } = 4;

    /// <summary>YaRN: rotations within the original context above which a dimension stays.</summary>
    public double BetaFast { get; init; } = 32;

    /// <summary>YaRN: rotations below which a dimension is divided by the whole factor.</summary>
    public double BetaSlow { get; init; } = 1;

    /// <summary>YaRN: whether the bounds between the two are rounded to whole dimensions.</summary>
    public bool Truncate { get; init; } = true;

    /// <summary>
    /// YaRN and LongRoPE: what cos and sin are multiplied by; null for 0.1 ln(factor) + 1 (YaRN) or sqrt(1 + ln(factor) / ln(original
    /// context)) (LongRoPE).
    /// </summary>
    public double? AttentionFactor { get; init; }

    /// <summary>LongRoPE: what each pair's wavelength is multiplied by within the original context.</summary>
    public IReadOnlyList<double> ShortFactors { get; init; } = [];

    /// <summary>LongRoPE: the same beyond it.</summary>
    public IReadOnlyList<double> LongFactors { get; init; } = [];

    /// <summary>The share of a head's dimensions that are rotated, from its first on.</summary>
    public double RotatedShare { get; init; } = 1;

    /// <summary>Whether the frequencies depend on how long the text is.</summary>
    public bool DependsOnLength => Kind is RopeKind.Dynamic or RopeKind.LongRope;

    /// <summary>Whether texts of two lengths, in tokens, have the same frequencies.</summary>
    public bool AreSame(long length, long otherLength) => Kind switch
    {
        RopeKind.Dynamic => Math.Max(length, OriginalMaxPositions) == Math.Max(otherLength, OriginalMaxPositions),
        RopeKind.LongRope => length > OriginalMaxPositions == otherLength > OriginalMaxPositions,
        _ => true,
    };
}

/// <summary>How rotary frequencies are stretched for contexts longer than the ones a model was first trained on.</summary>
public enum RopeKind
{
    /// <summary>Not at all (Su et al., RoFormer, 2021).</summary>
    Default,

    /// <summary>Positions divided by a factor (position interpolation, Chen et al., 2023).</summary>
    Linear,

    /// <summary>The base grows with the sequence once it passes the trained context (dynamic NTK).</summary>
    Dynamic,

    /// <summary>Llama 3.1's: long wavelengths divided by a factor, short ones kept, those between blended.</summary>
    Llama3,

    /// <summary>YaRN (Peng et al., 2023): blended by dimension, and attention scaled.</summary>
    Yarn,

    /// <summary>LongRoPE (Ding et al., 2024): each pair of dimensions has its own two factors, for texts within and beyond the trained context.</summary>
    LongRope,
}
