using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>A layer's mixture of experts: a router sends each token to a few of many feed-forwards (Fedus et al., 2021; Jiang et al., 2024).</summary>
public sealed record MixtureConfig
{
    /// <summary>Number of experts.</summary>
    public required int ExpertCount { get; init; }

    /// <summary>The setting of config.json that gives <see cref="ExpertCount"/>.</summary>
    public required string ExpertCountSetting { get; init; }

    /// <summary>How many experts read a token.</summary>
    public required int ExpertsPerToken { get; init; }

    /// <summary>Width of an expert's inner layer, with the setting that gives it.</summary>
    public required Dimension IntermediateSize { get; init; }

    /// <summary>Whether the chosen experts' weights are divided by their sum.</summary>
    public required bool NormalizesWeights { get; init; }

    /// <summary>Width of the inner layer of an expert that reads every token, or null for none.</summary>
    public Dimension? SharedIntermediateSize { get; init; }

    /// <summary>What the checkpoint calls the mixture.</summary>
    public string ModuleName { get; init; } = "mlp";

    /// <summary>What the checkpoint calls an expert's layers.</summary>
    public FeedForwardNames ExpertNames { get; init; } = FeedForwardNames.Usual;
}
