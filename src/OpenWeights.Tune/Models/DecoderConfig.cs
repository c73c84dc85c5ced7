using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;

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

    /// <summary>Whether <see cref="MaxPositions"/> is what rope scaling has made of it already (Gemma 3).</summary>
    public bool MaxPositionsAreScaled { get; init; }

    /// <summary>The longest text that the model can be given, in tokens: <see cref="MaxPositions"/> after rope scaling.</summary>
    public int ContextLength => MaxPositionsAreScaled ? MaxPositions : ContextLimit.Length(MaxPositions, Rope);

    /// <summary>What keeps the root mean square from being zero.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>Rotary position embedding of the layers that look at the whole context.</summary>
    public required RopeConfig Rope { get; init; }

    /// <summary>What may differ from layer to layer, one entry each; empty where all layers are alike.</summary>
    public IReadOnlyList<LayerConfig> Layers { get; init; } = [];

    /// <summary>Where layers normalise.</summary>
    public NormPlacement NormPlacement { get; init; } = NormPlacement.Before;

    /// <summary>How norms compute.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Whether a layer's feed-forward reads what its token mixer reads, and not the residual stream behind it.</summary>
    public bool ParallelParts { get; init; }

    /// <summary>Whether queries and keys are normalised.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>The activation of feed-forwards.</summary>
    public Activation Activation { get; init; } = Activation.Silu;

    /// <summary>Whether the output head is the embedding's weight.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Whether query, key and value are one projection, qkv_proj, and gate and up are one, gate_up_proj (Phi-3).</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether attention's output projection has a bias.</summary>
    public bool AttentionOutputBias { get; init; }

    /// <summary>Whether the feed-forward's projections have a bias.</summary>
    public bool FeedForwardBias { get; init; }

    /// <summary>The standard deviation that weights trained from scratch start with.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>What attention scores are multiplied by; null for 1 / sqrt(head_dim).</summary>
    public double? ScoreMultiplier { get; init; }

    /// <summary>What attention scores are kept within, by c tanh(x / c); null for no limit.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>What embeddings are multiplied by.</summary>
    public double EmbeddingMultiplier { get; init; } = 1;

    /// <summary>Whether <see cref="EmbeddingMultiplier"/> is first rounded to the model's dtype (Gemma).</summary>
    public bool RoundsEmbeddingMultiplier { get; init; }

    /// <summary>What a block's output is multiplied by before it is added to the residual stream.</summary>
    public double ResidualMultiplier { get; init; } = 1;

    /// <summary>What logits are multiplied by.</summary>
    public double LogitMultiplier { get; init; } = 1;

    /// <summary>What logits are kept within, by c tanh(x / c); null for no limit.</summary>
    public double? LogitSoftCap { get; init; }

    /// <summary>What the routers' balance loss counts in training; 0 where it is off.</summary>
    public double RouterLossWeight { get; init; }

    /// <summary>What attention scores are multiplied by.</summary>
    public double AttentionScale => ScoreMultiplier ?? (1 / Math.Sqrt(HeadDimension));

    /// <summary>How attention is made and computes where a layer has no mixer of its own.</summary>
    public AttentionSettings Attention => new()
    {
        HiddenSize = HiddenSize,
        HeadCount = HeadCount,
        KeyValueHeadCount = KeyValueHeadCount,
        HeadDimension = HeadDimension,
        Scale = AttentionScale,
        ScoreSoftCap = ScoreSoftCap,
        FusedProjections = FusedProjections,
        QueryKeyValueBias = QueryKeyValueBias,
        OutputBias = AttentionOutputBias,
        QueryKeyNorm = QueryKeyNorm,
        Norm = Norm,
    };

    /// <summary>How feed-forwards are made and compute where a layer has none of its own.</summary>
    public GatedFeedForwardSettings FeedForward => new()
    {
        HiddenSize = HiddenSize,
        Inner = new Dimension("intermediate_size", IntermediateSize),
        Activation = Activation,
        FusedProjections = FusedProjections,
        HasBias = FeedForwardBias,
    };

    /// <summary>In what a layer differs.</summary>
    /// <param name="layer">The layer's number.</param>
    public LayerConfig Layer(int layer) => Layers.Count > 0 ? Layers[layer] : new LayerConfig { Rope = Rope };

    /// <summary>What a layer is made of.</summary>
    /// <param name="layer">The layer's number.</param>
    public LayerSettings LayerSettings(int layer)
    {
        var own = Layer(layer);
        return new LayerSettings
        {
            HiddenSize = HiddenSize,
            Mixer = own.Parts == LayerParts.FeedForwardOnly ? null : own.Mixer ?? Attention with { Rope = own.Rope, SlidingWindow = own.SlidingWindow },
            FeedForward = own.Parts == LayerParts.MixerOnly ? null : own.FeedForward ?? FeedForward,
            Norms = NormPlacement,
            Norm = Norm,
            IsParallel = ParallelParts,
            ResidualMultiplier = ResidualMultiplier,
        };
    }

    /// <summary>A record for the routers' scores of a training pass; null where no balance loss is wanted of them.</summary>
    internal RouterRecord? NewRouterRecord() =>
        RouterLossWeight > 0 && Layers.Select(static l => l.FeedForward?.RoutedExperts).FirstOrDefault(static n => n is not null) is { } chosen ? new RouterRecord(chosen) : null;
}
