namespace OpenWeights.Tune.Models.Rope;

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

    /// <summary>YaRN: what cos and sin are multiplied by; null for 0.1 ln(factor) + 1.</summary>
    public double? AttentionFactor { get; init; }
}
