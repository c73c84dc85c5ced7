using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Settings of an attention block.</summary>
public sealed record AttentionSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "self_attn";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key/value heads; it divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Head dimension.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Scaling factor of the scores.</summary>
    public required double Scale { get; init; }

    /// <summary>Soft cap c of the scores, c tanh(x / c); null for none.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>Whether query, key and value are one projection, qkv_proj.</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether the output projection has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>Norms of queries and keys.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>Settings of these norms.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Rotary embedding; null for a layer without positional encoding (NoPE).</summary>
    public RopeConfig? Rope { get; init; }

    /// <summary>Sliding window: number of tokens that a token attends to, including itself; null for all.</summary>
    public int? SlidingWindow { get; init; }

    internal override MixerNeeds Needs => new() { Rope = Rope, RotaryWidth = HeadDimension, Looks = true, SlidingWindow = SlidingWindow, LimitsScores = ScoreSoftCap is not null };

    internal override TokenMixer Make(IWeightSource weights, string name) => new SelfAttention(this, weights, name);
}

/// <summary>Norms of queries and keys before the rotary embedding.</summary>
public enum QueryKeyNorm
{
    /// <summary>No norms.</summary>
    None,

    /// <summary>Each head separately, with one weight for all heads (Qwen3, Gemma 3).</summary>
    PerHead,

    /// <summary>All heads of a token together (OLMo 2).</summary>
    AllHeads,
}
