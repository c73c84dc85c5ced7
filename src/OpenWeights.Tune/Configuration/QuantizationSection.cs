namespace OpenWeights.Tune.Configuration;

/// <summary>Quantisation of the frozen base. It can be written and is refused until it is there.</summary>
public sealed record QuantizationSection
{
    /// <summary>The kind.</summary>
    [Setting("The kind of quantisation.", OneOf = ["nf4", "int8"])]
    public string Type { get; init; } = "nf4";

    /// <summary>Weights that share a scale.</summary>
    [Setting("How many weights share a scale.", Min = 1)]
    public int BlockSize { get; init; } = 64;

    /// <summary>Whether scales are quantised too.</summary>
    [Setting("Whether the scales are quantised too.")]
    public bool DoubleQuant { get; init; } = true;
}
