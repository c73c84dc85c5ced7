using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>A layer's mixture of experts: a router sends each token to a few of many feed-forwards (Fedus et al., 2021; Jiang et al., 2024).</summary>
public sealed record MixtureSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Number of experts.</summary>
    public required int ExpertCount { get; init; }

    /// <summary>The setting of config.json that gives <see cref="ExpertCount"/>.</summary>
    public required string ExpertCountSetting { get; init; }

    /// <summary>How many experts read a token.</summary>
    public required int ExpertsPerToken { get; init; }

    /// <summary>An expert.</summary>
    public required GatedFeedForwardSettings Expert { get; init; }

    /// <summary>Whether the chosen experts' weights are divided by their sum.</summary>
    public required bool NormalizesWeights { get; init; }

    /// <summary>The expert that reads every token behind a gate, or null for none.</summary>
    public GatedFeedForwardSettings? Shared { get; init; }

    internal override int? RoutedExperts => ExpertsPerToken;

    internal override LayerPart Make(IWeightSource weights, string name) => new MixtureOfExperts(this, weights, name);
}
