using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Layers.Streams;

namespace OpenWeights.Tune.Models;

/// <summary>Settings of a decoder layer.</summary>
internal sealed record LayerSettings
{
    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>The token mixer; null for none.</summary>
    public required MixerSettings? Mixer { get; init; }

    /// <summary>The feed-forward; null for none.</summary>
    public required FeedForwardSettings? FeedForward { get; init; }

    /// <summary>Names and places of the layer's norms.</summary>
    public required NormPlacement Norms { get; init; }

    /// <summary>Settings of the norms.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Whether mixer and feed-forward run in parallel on the same input. Otherwise the feed-forward reads the residual stream after the mixer.</summary>
    public bool IsParallel { get; init; }

    /// <summary>Factor of each part's output before it is added to the residual stream.</summary>
    public double ResidualMultiplier { get; init; } = 1;

    /// <summary>A residual layer beside the token mixer; null for none.</summary>
    public LaurelSettings? Laurel { get; init; }

    /// <summary>The part that adds the layer's own input after the feed-forward; null for none.</summary>
    public PerLayerInputSettings? PerLayerInput { get; init; }

    /// <summary>Name of a buffer that multiplies the layer's output; null for none.</summary>
    public string? OutputFactor { get; init; }

    /// <summary>The residual streams of which the layer reads one; null for a single stream.</summary>
    public AltUpSettings? Streams { get; init; }
}

/// <summary>Settings that may differ from layer to layer; a null part is that of the decoder.</summary>
internal sealed record LayerConfig
{
    /// <summary>Rotary position embedding of the layer's attention; null for none (NoPE).</summary>
    public required RopeConfig? Rope { get; init; }

    /// <summary>Sliding window of the layer's attention: number of tokens that a token attends to, including itself; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>Token mixer of this layer; null for the decoder's attention.</summary>
    public MixerSettings? Mixer { get; init; }

    /// <summary>Feed-forward of this layer, such as a mixture of experts; null for the decoder's.</summary>
    public FeedForwardSettings? FeedForward { get; init; }

    /// <summary>Norms of this layer; null for the decoder's.</summary>
    public NormPlacement? Norms { get; init; }

    /// <summary>Which parts the layer has.</summary>
    public LayerParts Parts { get; init; } = LayerParts.Both;
}

/// <summary>Which parts a layer has.</summary>
internal enum LayerParts
{
    /// <summary>Token mixer and feed-forward.</summary>
    Both,

    /// <summary>Only a token mixer (Mamba).</summary>
    MixerOnly,

    /// <summary>Only a feed-forward.</summary>
    FeedForwardOnly,
}

/// <summary>Names of a layer's norms in the checkpoint; null for a norm that the layer does not have.</summary>
/// <param name="BeforeMixer">Norm of the token mixer's input.</param>
/// <param name="AfterMixer">Norm of the token mixer's output, before it is added to the residual stream.</param>
/// <param name="BeforeFeedForward">Norm of the feed-forward's input; the same name as <paramref name="BeforeMixer"/> if both parts share one norm (Phi, Cohere).</param>
/// <param name="AfterFeedForward">Norm of the feed-forward's output.</param>
internal sealed record NormPlacement(string? BeforeMixer, string? AfterMixer, string? BeforeFeedForward, string? AfterFeedForward)
{
    /// <summary>Pre-norm, as in Llama, where the feed-forward's norm is named post_attention_layernorm.</summary>
    public static NormPlacement Before { get; } = new("input_layernorm", null, "post_attention_layernorm", null);

    /// <summary>Norms of the outputs (OLMo 2).</summary>
    public static NormPlacement After { get; } = new(null, "post_attention_layernorm", null, "post_feedforward_layernorm");

    /// <summary>One norm of the input of both parts (Phi, Cohere).</summary>
    public static NormPlacement Shared { get; } = new("input_layernorm", null, "input_layernorm", null);

    /// <summary>Norms of inputs and outputs (Gemma 2 and 3).</summary>
    public static NormPlacement BeforeAndAfter { get; } = new("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm");
}
