using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Rope;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Settings of an attention block.</summary>
internal sealed record AttentionSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "self_attn";

    /// <summary>Names of its parts in the checkpoint.</summary>
    public AttentionNames Names { get; init; } = AttentionNames.Usual;

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key/value heads; it divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Head dimension of queries and keys.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Head dimension of values; null for <see cref="HeadDimension"/>.</summary>
    public int? ValueHeadDimension { get; init; }

    /// <summary>Scaling factor of the scores; it includes a constant factor of queries or keys, if there is one.</summary>
    public required double Scale { get; init; }

    /// <summary>Scaling factor of queries that grows with their position; null for none.</summary>
    public QueryScaling? QueryScaling { get; init; }

    /// <summary>Factor of the values (MiMo).</summary>
    public double ValueMultiplier { get; init; } = 1;

    /// <summary>Soft cap c of the scores, c tanh(x / c); null for none.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>Largest absolute value of queries, keys and values, after their norms: larger ones are set to it (OLMo's clip_qkv); null for none.</summary>
    public double? ProjectionLimit { get; init; }

    /// <summary>Whether each head has an attention sink, a learned score of one more key whose value is 0 (gpt-oss).</summary>
    public bool HasSinks { get; init; }

    /// <summary>How query, key and value projections are stored.</summary>
    public QueryKeyValueLayout Projections { get; init; }

    /// <summary>Whether query, key and value projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Whether the output projection has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>What the attention output is multiplied by before the output projection: the sigmoid of a projection of the block's input.</summary>
    public OutputGate OutputGate { get; init; }

    /// <summary>Norms of queries and keys.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>Whether these norms come after the rotary embedding, and not before it.</summary>
    public bool NormalizesRotated { get; init; }

    /// <summary>Settings of these norms.</summary>
    public required NormSettings Norm { get; init; }

    /// <summary>Whether values are normalized, each head separately and without a weight (Gemma 3n and 4).</summary>
    public bool NormalizesValues { get; init; }

    /// <summary>Whether values are the keys before their norm and the rotary embedding, and not from a projection of their own (Gemma 4).</summary>
    public bool ValuesAreKeys { get; init; }

    /// <summary>Index of an earlier layer whose keys and values are used; null for keys and values of its own.</summary>
    public int? KeysOf { get; init; }

    /// <summary>Rotary embedding; null for a layer without positional encoding (NoPE).</summary>
    public RopeConfig? Rope { get; init; }

    /// <summary>Sliding window: number of tokens that a token attends to, including itself; null for all.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>Chunk size: a token attends only to the tokens of its own chunk of that many positions (Llama 4); null for all.</summary>
    public int? ChunkSize { get; init; }

    /// <summary>How many tokens, itself included, a token attends to at most; null for all.</summary>
    internal int? Window => ChunkSize ?? SlidingWindow;

    /// <summary>Whether scores have a soft cap or sinks, which torch's attention does not support.</summary>
    internal bool LimitsScores => ScoreSoftCap is not null || HasSinks;

    /// <summary>Head dimension of values.</summary>
    internal int ValueWidth => ValueHeadDimension ?? HeadDimension;

    internal override MixerNeeds Needs => new()
    {
        Rope = Rope,
        RotaryWidth = HeadDimension,
        Looks = true,
        SlidingWindow = Window,
        ChunkSize = ChunkSize,
        LimitsScores = LimitsScores,
        KeysOf = KeysOf,
        Positions = QueryScaling is not null,
    };

    internal override TokenMixer Make(IWeightSource weights, string name) => new SelfAttention(this, weights, name);
}

/// <summary>Norms of queries and keys.</summary>
internal enum QueryKeyNorm
{
    /// <summary>No norms.</summary>
    None,

    /// <summary>Each head separately, with one weight for all heads (Qwen3, Gemma 3).</summary>
    PerHead,

    /// <summary>All heads of a token together (OLMo 2).</summary>
    AllHeads,

    /// <summary>Each head separately, each with its own weight (Cohere, StableLM 2).</summary>
    EachHead,
}

/// <summary>How query, key and value projections are stored.</summary>
internal enum QueryKeyValueLayout
{
    /// <summary>Three layers.</summary>
    Separate,

    /// <summary>One layer: all query heads, then all key heads, then all value heads (Phi-3).</summary>
    Fused,

    /// <summary>One layer: query, key and value of each head in turn (GPT-NeoX). There are as many key/value heads as query heads.</summary>
    FusedByHead,
}

/// <summary>What the attention output is multiplied by.</summary>
internal enum OutputGate
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>One gate for each element, from a projection of its own (AFMoE).</summary>
    PerElement,

    /// <summary>One gate for each head, from a projection of its own (LFM 3).</summary>
    PerHead,

    /// <summary>One gate for each element, from the query projection: the query of each head is followed by its gate (Qwen3-Next).</summary>
    InQuery,
}

/// <summary>A factor of queries that grows with their position p: 1 + <paramref name="Weight"/> ln(1 + floor((p + <paramref name="Offset"/>) / <paramref name="Length"/>)).</summary>
/// <param name="Weight">The weight of the logarithm (llama_4_scaling_beta, attn_scale).</param>
/// <param name="Length">The number of positions after which the factor grows (original_max_position_embeddings, floor_scale).</param>
/// <param name="Offset">What is added to the position: 1 in Llama 4, 0 in Ministral 3.</param>
internal sealed record QueryScaling(double Weight, double Length, double Offset)
{
    /// <summary>Multiplies queries by the factor of their positions, in the caller's dispose scope.</summary>
    /// <param name="query">Queries, [batch, heads, tokens, head_dim].</param>
    /// <param name="positions">Positions, [batch or 1, tokens], int64.</param>
    internal Tensor Apply(Tensor query, Tensor positions)
    {
        using var scope = NewDisposeScope();
        using Scalar offset = Offset, length = Length, weight = Weight;
        var factors = positions.to(WideNumbers.Of(query.dtype)).add_(offset, Scalars.One).div_(length).floor_().log1p_().mul_(weight).add_(Scalars.One, Scalars.One);
        return query.mul(factors.to(query.dtype).unsqueeze(1).unsqueeze(-1)).MoveToOuterDisposeScope();
    }
}

/// <summary>Names of an attention block's parts in a checkpoint.</summary>
internal sealed record AttentionNames
{
    /// <summary>The names used by Llama and most families.</summary>
    public static AttentionNames Usual { get; } = new();

    /// <summary>The query projection.</summary>
    public string Query { get; init; } = "q_proj";

    /// <summary>The key projection.</summary>
    public string Key { get; init; } = "k_proj";

    /// <summary>The value projection.</summary>
    public string Value { get; init; } = "v_proj";

    /// <summary>Query, key and value projections in one.</summary>
    public string Fused { get; init; } = "qkv_proj";

    /// <summary>The output projection.</summary>
    public string Output { get; init; } = "o_proj";

    /// <summary>The projection to the gate of the output.</summary>
    public string Gate { get; init; } = "gate_proj";

    /// <summary>The norm of queries.</summary>
    public string QueryNorm { get; init; } = "q_norm";

    /// <summary>The norm of keys.</summary>
    public string KeyNorm { get; init; } = "k_norm";

    /// <summary>The attention sinks.</summary>
    public string Sinks { get; init; } = "sinks";
}
