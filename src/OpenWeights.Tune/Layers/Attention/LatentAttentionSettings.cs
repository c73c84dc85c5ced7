using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Settings of latent attention.</summary>
internal sealed record LatentAttentionSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "self_attn";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Rank of the query projection (q_lora_rank); null for one full matrix.</summary>
    public int? QueryRank { get; init; }

    /// <summary>Width of the latent of keys and values (kv_lora_rank).</summary>
    public required int LatentWidth { get; init; }

    /// <summary>The part of a head's queries and keys without positions (qk_nope_head_dim).</summary>
    public required int PlainWidth { get; init; }

    /// <summary>The part of a head's queries that is rotated, and of a key that all heads share (qk_rope_head_dim).</summary>
    public required int RotatedWidth { get; init; }

    /// <summary>Width of a head's values (v_head_dim).</summary>
    public required int ValueWidth { get; init; }

    /// <summary>Scaling factor of the scores.</summary>
    public required double Scale { get; init; }

    /// <summary>Whether the projections from the hidden states, and back to them, have a bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>Settings of the norms of the latents.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Rotary embedding of <see cref="RotatedWidth"/>; null for none (NoPE), where that part is still shared by all heads.</summary>
    public RopeConfig? Rope { get; init; }

    /// <summary>Scaling factor of queries that grows with their position; null for none.</summary>
    public QueryScaling? QueryScaling { get; init; }

    /// <summary>Sliding window: number of tokens that a token attends to, including itself; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>Width of a head's queries and keys.</summary>
    public int KeyWidth => PlainWidth + RotatedWidth;

    internal override MixerNeeds Needs => new() { Rope = Rope, RotaryWidth = RotatedWidth, Looks = true, SlidingWindow = SlidingWindow, Positions = QueryScaling is not null };

    internal override TokenMixer Make(IWeightSource weights, string name) => new LatentAttention(this, weights, name);
}
