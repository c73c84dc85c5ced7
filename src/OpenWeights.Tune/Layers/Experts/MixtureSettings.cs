using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>Settings of a mixture of experts: a router sends each token to a few of many feed-forward blocks (Fedus et al., 2021; Jiang et al., 2024).</summary>
public sealed record MixtureSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Number of experts.</summary>
    public required int ExpertCount { get; init; }

    /// <summary>The setting of config.json that determines <see cref="ExpertCount"/>.</summary>
    public required string ExpertCountSetting { get; init; }

    /// <summary>Number of experts per token.</summary>
    public required int ExpertsPerToken { get; init; }

    /// <summary>Settings of an expert.</summary>
    public required GatedFeedForwardSettings Expert { get; init; }

    /// <summary>Whether the weights of the selected experts are normalized to sum to one.</summary>
    public required bool NormalizesWeights { get; init; }

    /// <summary>The gated shared expert, which processes every token, or null for none.</summary>
    public GatedFeedForwardSettings? Shared { get; init; }

    internal override int? RoutedExperts => ExpertsPerToken;

    internal override LayerPart Make(IWeightSource weights, string name) => new MixtureOfExperts(this, weights, name);
}
