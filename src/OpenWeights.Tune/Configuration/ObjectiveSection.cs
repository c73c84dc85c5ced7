namespace OpenWeights.Tune.Configuration;

/// <summary>What a run minimises.</summary>
public sealed record ObjectiveSection
{
    /// <summary>The kind of objective.</summary>
    [Setting("The objective: sft, the cross entropy of the trained tokens.", OneOf = ["sft"])]
    public string Type { get; init; } = "sft";

    /// <summary>Label smoothing.</summary>
    [Setting("The share of each target that is spread over the whole vocabulary.", Min = 0, Max = 0.999)]
    public double LabelSmoothing { get; init; }

    /// <summary>The weight of the z-loss.</summary>
    [Setting("The weight of the squared logarithm of the softmax's denominator, which keeps logits small (1e-4 is usual).", Min = 0)]
    public double ZLoss { get; init; }
}
