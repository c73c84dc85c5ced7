namespace OpenWeights.Tune.Configuration;

/// <summary>Quantisation of the frozen base: every linear layer but the output head.</summary>
public sealed record QuantizationSection
{
    /// <summary>The kind.</summary>
    [Setting("The kind of quantisation: nf4 (QLoRA, about half a byte a weight) or int8 (a byte).", OneOf = ["nf4", "int8"])]
    public string Type { get; init; } = "nf4";

    /// <summary>Weights that share a scale.</summary>
    [Setting("nf4: how many weights share a scale, a power of two.", Min = 32, Max = 4096)]
    public int BlockSize { get; init; } = 64;

    /// <summary>Whether scales are quantised too.</summary>
    [Setting("nf4: whether the scales are quantised too.")]
    public bool DoubleQuant { get; init; } = true;
}
