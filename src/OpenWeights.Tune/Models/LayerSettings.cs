using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Layers.Streams;

namespace OpenWeights.Tune.Models;

/// <summary>What a layer is made of.</summary>
public sealed record LayerSettings
{
    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>What mixes tokens; null for nothing.</summary>
    public required MixerSettings? Mixer { get; init; }

    /// <summary>The feed-forward; null for none.</summary>
    public required FeedForwardSettings? FeedForward { get; init; }

    /// <summary>Where the layer normalises.</summary>
    public required NormPlacement Norms { get; init; }

    /// <summary>How its norms compute.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Whether the feed-forward reads what the mixer reads, and not the residual stream behind it.</summary>
    public bool IsParallel { get; init; }

    /// <summary>What a part's output is multiplied by before it is added to the residual stream.</summary>
    public double ResidualMultiplier { get; init; } = 1;

    /// <summary>A residual layer beside the token mixer; null for none.</summary>
    public LaurelSettings? Laurel { get; init; }

    /// <summary>What adds the layer's own input behind the feed-forward; null for nothing.</summary>
    public PerLayerInputSettings? PerLayerInput { get; init; }

    /// <summary>Name of a buffer that multiplies the layer's output; null for none.</summary>
    public string? OutputFactor { get; init; }

    /// <summary>The residual streams of which the layer reads one; null for a single stream.</summary>
    public AltUpSettings? Streams { get; init; }
}

/// <summary>What may differ from layer to layer, and in what a layer differs from the decoder's usual one.</summary>
public sealed record LayerConfig
{
    /// <summary>Rotary position embedding of the layer's attention; null where it has no positions (NoPE).</summary>
    public required RopeConfig? Rope { get; init; }

    /// <summary>How many tokens, itself included, a token may look back at in the layer's attention; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>What mixes tokens in place of the decoder's attention; null for that.</summary>
    public MixerSettings? Mixer { get; init; }

    /// <summary>The feed-forward in place of the decoder's, such as a mixture of experts; null for that.</summary>
    public FeedForwardSettings? FeedForward { get; init; }

    /// <summary>Which parts the layer has.</summary>
    public LayerParts Parts { get; init; } = LayerParts.Both;
}

/// <summary>Which parts a layer has.</summary>
public enum LayerParts
{
    /// <summary>A token mixer and a feed-forward.</summary>
    Both,

    /// <summary>A token mixer alone (Mamba).</summary>
    MixerOnly,

    /// <summary>A feed-forward alone.</summary>
    FeedForwardOnly,
}

/// <summary>Where a layer normalises: the checkpoint's names of its norms, each null where there is none.</summary>
/// <param name="BeforeMixer">Of what the token mixer reads.</param>
/// <param name="AfterMixer">Of what it gives, before that is added to the residual stream.</param>
/// <param name="BeforeFeedForward">Of what the feed-forward reads; <paramref name="BeforeMixer"/> again where both parts read the same (Phi, Cohere).</param>
/// <param name="AfterFeedForward">Of what it gives.</param>
public sealed record NormPlacement(string? BeforeMixer, string? AfterMixer, string? BeforeFeedForward, string? AfterFeedForward)
{
    /// <summary>What the parts read (Llama, which names the feed-forward's norm after what comes before it).</summary>
    public static NormPlacement Before { get; } = new("input_layernorm", null, "post_attention_layernorm", null);

    /// <summary>What they give (OLMo 2).</summary>
    public static NormPlacement After { get; } = new(null, "post_attention_layernorm", null, "post_feedforward_layernorm");

    /// <summary>One norm of what both parts read, side by side (Phi, Cohere).</summary>
    public static NormPlacement Shared { get; } = new("input_layernorm", null, "input_layernorm", null);

    /// <summary>Both (Gemma 2 and 3).</summary>
    public static NormPlacement BeforeAndAfter { get; } = new("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm");
}
