using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>How a layer's attention is made and computes.</summary>
public sealed record AttentionSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "self_attn";

    /// <summary>Width of the states that it reads and gives.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key/value heads; it divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Width of a head.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>What scores are multiplied by.</summary>
    public required double Scale { get; init; }

    /// <summary>What scores are kept within, by c tanh(x / c); null for no limit.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>Whether query, key and value are one projection, qkv_proj.</summary>
    public bool FusedProjections { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether the output projection has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>Whether queries and keys are normalised.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>How their norms compute.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Rotary position embedding; null where the layer has no positions (NoPE).</summary>
    public RopeConfig? Rope { get; init; }

    /// <summary>How many tokens, itself included, a token may look back at; null for all.</summary>
    public int? SlidingWindow { get; init; }

    internal override MixerNeeds Needs => new() { Rope = Rope, RotaryWidth = HeadDimension, Looks = true, SlidingWindow = SlidingWindow, LimitsScores = ScoreSoftCap is not null };

    internal override TokenMixer Make(IWeightSource weights, string name) => new SelfAttention(this, weights, name);
}

/// <summary>Whether queries and keys are normalised before they are rotated.</summary>
public enum QueryKeyNorm
{
    /// <summary>They are not.</summary>
    None,

    /// <summary>Each head by itself, with one weight for all heads (Qwen3, Gemma 3).</summary>
    PerHead,

    /// <summary>All heads of a token together (OLMo 2).</summary>
    AllHeads,
}
