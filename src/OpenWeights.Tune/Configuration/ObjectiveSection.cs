namespace OpenWeights.Tune.Configuration;

/// <summary>What a run minimises.</summary>
public sealed record ObjectiveSection
{
    /// <summary>The kind of objective.</summary>
    [Setting("The objective: sft, the cross entropy of the trained tokens.", OneOf = ["sft"])]
    public string Type { get; init; } = "sft";
}
