using OpenWeights.Tune.Models.Rope;

namespace OpenWeights.Tune.Models;

/// <summary>
/// What the decoder is built from: a family's config.json put into one set of terms. The decoder looks at these alone and never at
/// the family's name.
/// </summary>
public sealed record DecoderConfig
{
    /// <summary>The family's model_type, such as llama.</summary>
    public required string ModelType { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of the feed-forward's inner layer.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Number of decoder layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key/value heads; it divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Width of a head.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Number of tokens the embedding knows.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>The longest context, in tokens, that the model says it was made for.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>What keeps the root mean square from being zero.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>Rotary position embedding.</summary>
    public required RopeConfig Rope { get; init; }

    /// <summary>Whether the output head is the embedding's weight.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether attention's output projection has a bias.</summary>
    public bool AttentionOutputBias { get; init; }

    /// <summary>Whether the feed-forward's projections have a bias.</summary>
    public bool FeedForwardBias { get; init; }

    /// <summary>The standard deviation that weights trained from scratch start with.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>What attention scores are multiplied by.</summary>
    public double AttentionScale => 1 / Math.Sqrt(HeadDimension);
}
