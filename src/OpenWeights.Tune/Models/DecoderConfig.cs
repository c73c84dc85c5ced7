using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Layers.Streams;

namespace OpenWeights.Tune.Models;

/// <summary>
/// Config of a decoder: a family's config.json in common terms. The decoder depends only on these settings, never on
/// the name of the family.
/// </summary>
internal sealed record DecoderConfig
{
    /// <summary>The family's model_type, such as llama.</summary>
    public required string ModelType { get; init; }

    /// <summary>Whether the decoder is a part of a multimodal model, whose other parts are not loaded.</summary>
    public bool IsPart { get; init; }

    /// <summary>Whether the model can have a head of labels: of multimodal models only some have a class with one in transformers.</summary>
    public bool TakesLabels { get; init; } = true;

    /// <summary>Names of the decoder's modules.</summary>
    public DecoderNames Names { get; init; } = DecoderNames.Usual;

    /// <summary>Hidden size: width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Hidden size of the feed-forward blocks.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Number of decoder layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key/value heads; it divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Head dimension.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Vocabulary size.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Maximum context length according to the config, in tokens.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>Whether <see cref="MaxPositions"/> already includes RoPE scaling (Gemma 3).</summary>
    public bool MaxPositionsAreScaled { get; init; }

    /// <summary>Context length of the model, in tokens: <see cref="MaxPositions"/> after RoPE scaling.</summary>
    public int ContextLength => MaxPositionsAreScaled ? MaxPositions : ContextLimit.Length(MaxPositions, Rope);

    /// <summary>Epsilon of the norms.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>Rotary embedding of the layers with full attention.</summary>
    public required RopeConfig Rope { get; init; }

    /// <summary>Settings per layer; empty if all layers are equal.</summary>
    public IReadOnlyList<LayerConfig> Layers { get; init; } = [];

    /// <summary>Names and places of the layers' norms.</summary>
    public NormPlacement NormPlacement { get; init; } = NormPlacement.Before;

    /// <summary>Settings of the norms.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Whether a layer's token mixer and feed-forward run in parallel on the same input.</summary>
    public bool ParallelParts { get; init; }

    /// <summary>Norms of queries and keys.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>Activation function of the feed-forward blocks.</summary>
    public Activation Activation { get; init; } = Activation.Silu;

    /// <summary>The labels that the model's head has outputs for; null for a language model, whose head has one for each token.</summary>
    public LabelHead? Labels { get; private init; }

    /// <summary>The output head's module: the vocabulary's, or that of labels.</summary>
    public string OutputModule => Labels is null ? Names.Head : LabelHead.Module;

    /// <summary>Number of outputs of the head.</summary>
    public int OutputSize => Labels?.Names.Count ?? VocabularySize;

    /// <summary>The same decoder with a head of labels. Its outputs are the linear layer's alone: no multiplier, soft cap or bias.</summary>
    /// <param name="labels">The labels; null to leave it as it is.</param>
    /// <exception cref="InvalidDataException">The decoder is a part of a multimodal model that transformers has no such class for, or has a head of another number of labels.</exception>
    public DecoderConfig With(LabelHead? labels) => labels is null ? this
        : Labels is { } own && own.Names.Count != labels.Names.Count ? throw new InvalidDataException($"the model's head has {own.Names.Count} {(own.Names.Count == 1 ? "output" : "labels")} ({string.Join(", ", own.Names.Take(8))}), and {labels.Names.Count} are needed ({string.Join(", ", labels.Names.Take(8))}).")
        : !TakesLabels ? throw new InvalidDataException($"the text model of this multimodal model ({ModelType}) cannot have a head of labels, because transformers' AutoModelForSequenceClassification has no class for it; start from a text model, or from a multimodal one that it has a class for (gemma3, qwen3_5).")
        : this with
        {
            // An adapter of PEFT knows only their number.
            Labels = Labels is { } named && labels.HasUsualNames ? named with { PadId = labels.PadId ?? named.PadId } : labels with { IsNew = Labels is null && labels.IsNew },
            TiedEmbeddings = false,
            HeadBias = false,
            LogitMultiplier = 1,
            LogitSoftCap = null,
        };

    /// <summary>Throws if the model is no language model.</summary>
    /// <param name="work">What needs one, such as "generating text".</param>
    /// <exception cref="InvalidDataException">The model has a head of labels.</exception>
    public void RequireLanguage(string work)
    {
        if (Labels is { } labels)
        {
            throw new InvalidDataException($"this model has a head of {(labels.Names.Count == 1 ? "rewards" : "labels")} and none of tokens, which {work} needs; use the language model that it was made from{(labels.Names.Count == 1 ? ", or owt score --rewards" : ", or owt score --labels")}.");
        }
    }

    /// <summary>Whether the output head is tied to the embedding.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Whether query, key and value are one projection (qkv_proj), and gate and up are one (gate_up_proj), as in Phi-3.</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether the output head has a bias.</summary>
    public bool HeadBias { get; init; }

    /// <summary>Whether the embeddings are normalised before the first layer, as by the final norm (nanochat).</summary>
    public bool NormalizesEmbedding { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether the output projection of attention has a bias.</summary>
    public bool AttentionOutputBias { get; init; }

    /// <summary>Whether the feed-forward projections have a bias.</summary>
    public bool FeedForwardBias { get; init; }

    /// <summary>Standard deviation of the initialization when training from scratch.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>Scaling factor of attention scores; null for 1 / sqrt(head_dim).</summary>
    public double? ScoreMultiplier { get; init; }

    /// <summary>Soft cap c of attention scores, c tanh(x / c); null for none.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>Factor of the embeddings.</summary>
    public double EmbeddingMultiplier { get; init; } = 1;

    /// <summary>Whether <see cref="EmbeddingMultiplier"/> is rounded to the model's dtype first (Gemma).</summary>
    public bool RoundsEmbeddingMultiplier { get; init; }

    /// <summary>Factor of a block's output before it is added to the residual stream.</summary>
    public double ResidualMultiplier { get; init; } = 1;

    /// <summary>Factor of the logits.</summary>
    public double LogitMultiplier { get; init; } = 1;

    /// <summary>Soft cap c of the logits, c tanh(x / c); null for none.</summary>
    public double? LogitSoftCap { get; init; }

    /// <summary>The inputs that layers have besides the residual stream; null for none.</summary>
    public PerLayerInputSettings? PerLayerInputs { get; init; }

    /// <summary>The residual streams (AltUp); null for a single one.</summary>
    public AltUpSettings? Streams { get; init; }

    /// <summary>The residual layers beside attention (LAuReL); null for none.</summary>
    public LaurelSettings? Laurel { get; init; }

    /// <summary>Name of a buffer in each layer that multiplies the layer's output; null for none.</summary>
    public string? LayerFactor { get; init; }

    /// <summary>Coefficient of the load balancing loss in training; 0 for none.</summary>
    public double RouterLossWeight { get; init; }

    /// <summary>Scaling factor of attention scores.</summary>
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
        Projections = FusedProjections ? QueryKeyValueLayout.Fused : QueryKeyValueLayout.Separate,
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

    /// <summary>The layer's own settings.</summary>
    /// <param name="layer">Index of the layer.</param>
    public LayerConfig Layer(int layer) => Layers.Count > 0 ? Layers[layer] : new LayerConfig { Rope = Rope };

    /// <summary>All settings of a layer.</summary>
    /// <param name="layer">Index of the layer.</param>
    public LayerSettings LayerSettings(int layer)
    {
        var own = Layer(layer);
        return new LayerSettings
        {
            HiddenSize = HiddenSize,
            Mixer = own.Parts == LayerParts.FeedForwardOnly ? null : own.Mixer ?? Attention with { Rope = own.Rope, SlidingWindow = own.SlidingWindow },
            FeedForward = own.Parts == LayerParts.MixerOnly ? null : own.FeedForward ?? FeedForward,
            Norms = own.Norms ?? NormPlacement,
            Norm = Norm,
            IsParallel = ParallelParts,
            ResidualMultiplier = ResidualMultiplier,
            Laurel = Laurel,
            PerLayerInput = PerLayerInputs,
            OutputFactor = LayerFactor,
            Streams = Streams,
        };
    }

    /// <summary>How many experts the routers choose for a token; null without routers.</summary>
    internal int? RoutedExperts => Layers.Select(static l => l.FeedForward?.RoutedExperts).FirstOrDefault(static n => n is not null);
}
