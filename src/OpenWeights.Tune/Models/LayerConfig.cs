using OpenWeights.Tune.Models.Rope;

namespace OpenWeights.Tune.Models;

/// <summary>What may differ from layer to layer.</summary>
public sealed record LayerConfig
{
    /// <summary>Rotary position embedding; null where the layer has no positions (NoPE).</summary>
    public required RopeConfig? Rope { get; init; }

    /// <summary>How many tokens, itself included, a token may look back at; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>The mixture of experts in place of the feed-forward, or null.</summary>
    public MixtureConfig? Mixture { get; init; }
}
