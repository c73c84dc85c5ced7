namespace OpenWeights.Formats.Families;

/// <summary>
/// What of a family of models is the same wherever it is read, trained and written: its names, and what settings are that its config.json
/// does not have, as transformers' class for that config takes them to be.
/// </summary>
public sealed record FamilyFacts
{
    /// <summary>The model_type of its config.json.</summary>
    public required string ModelType { get; init; }

    /// <summary>The class name that transformers writes to architectures.</summary>
    public required string ClassName { get; init; }

    /// <summary>Default of num_key_value_heads; null for the number of query heads.</summary>
    public int? KeyValueHeads { get; init; }

    /// <summary>Default of head_dim; null for hidden_size / num_attention_heads.</summary>
    public int? HeadDimension { get; init; }

    /// <summary>max_position_embeddings.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>Default of original_max_position_embeddings, for LongRoPE; null for max_position_embeddings.</summary>
    public int? OriginalMaxPositions { get; init; }

    /// <summary>rope_theta.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Whether the family supports partial_rotary_factor.</summary>
    public bool PartialRotation { get; init; }

    /// <summary>rms_norm_eps.</summary>
    public double NormEpsilon { get; init; } = 1e-6;

    /// <summary>tie_word_embeddings.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>The setting that names the activation.</summary>
    public string ActivationSetting { get; init; } = "hidden_act";

    /// <summary>The activation.</summary>
    public string Activation { get; init; } = "silu";

    /// <summary>Default of attention_bias, which applies to all four projections of attention; null if the family has no such setting.</summary>
    public bool? AttentionBias { get; init; }

    /// <summary>sliding_window; null for none.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>query_pre_attn_scalar, in families that have it.</summary>
    public int QueryScalar { get; init; } = 256;

    /// <summary>attn_logit_softcapping; null for none.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>final_logit_softcapping; null for none.</summary>
    public double? LogitSoftCap { get; init; }

    /// <summary>Its mixtures of experts; null where it has none.</summary>
    public ExpertFacts? Experts { get; init; }

    /// <summary>Its latent attention; null where it has none.</summary>
    public LatentFacts? Latent { get; init; }

    /// <summary>How its usual checkpoints differ from the names and shapes of its modules; null where they do not.</summary>
    public CheckpointLayout? Layout { get; init; }

    /// <summary>Whether what its models compute grows beyond float16's largest number, 65,504, so that float16 cannot stand in for bfloat16.</summary>
    public bool OverflowsInFloat16 { get; init; }
}

/// <summary>What of a family's mixtures of experts is the same everywhere.</summary>
public sealed record ExpertFacts
{
    /// <summary>What the usual checkpoints, which have one tensor for each matrix of each expert, call the mixture.</summary>
    public string Module { get; init; } = "mlp";

    /// <summary>What they call the matrix whose output goes through the activation.</summary>
    public string Gate { get; init; } = "gate_proj";

    /// <summary>The matrix that it is multiplied with.</summary>
    public string Up { get; init; } = "up_proj";

    /// <summary>The matrix back to the residual stream.</summary>
    public string Down { get; init; } = "down_proj";

    /// <summary>The number of experts.</summary>
    public required int Count { get; init; }

    /// <summary>num_experts_per_tok.</summary>
    public required int PerToken { get; init; }

    /// <summary>moe_intermediate_size; null where experts are as wide as intermediate_size says.</summary>
    public int? Inner { get; init; }

    /// <summary>shared_expert_intermediate_size; null where no expert reads every token.</summary>
    public int? Shared { get; init; }
}

/// <summary>Defaults of latent attention's settings.</summary>
/// <param name="QueryRank">q_lora_rank; null for a full query projection.</param>
/// <param name="Width">kv_lora_rank.</param>
/// <param name="Plain">qk_nope_head_dim.</param>
/// <param name="Rotated">qk_rope_head_dim.</param>
/// <param name="Value">v_head_dim; null for hidden_size / num_attention_heads.</param>
public sealed record LatentFacts(int? QueryRank, int Width, int Plain, int Rotated, int? Value);

/// <summary>How a family's usual checkpoints store what the reference implementation's modules hold under other names, or as one tensor.</summary>
/// <param name="Renames">Names that differ.</param>
/// <param name="Joins">Tensors that are stored in pieces.</param>
public sealed record CheckpointLayout(IReadOnlyList<TensorRename> Renames, IReadOnlyList<TensorJoin> Joins);

/// <summary>A part of a tensor's name that differs.</summary>
/// <param name="Stored">The name in the file, as a regular expression that may match anywhere in it, such as <c>\.block_sparse_moe\.gate\.</c>.</param>
/// <param name="Module">What the match becomes, such as <c>.mlp.gate.</c>; <c>$1</c> is the first group.</param>
public sealed record TensorRename(string Stored, string Module);

/// <summary>A tensor that is stored in pieces, which follow each other along its first dimension.</summary>
/// <param name="Whole">The end of its name, such as <c>.mlp.experts.gate_up_proj</c>.</param>
/// <param name="Pieces">
/// The ends of the pieces' names in the file, after renaming, such as <c>.mlp.experts.{e}.gate_proj.weight</c> and <c>.mlp.experts.{e}.up_proj.weight</c>.
/// With <c>{e}</c>, the index of an expert, the pieces of an expert are joined, and the experts stacked: [experts, ...].
/// </param>
public sealed record TensorJoin(string Whole, params IReadOnlyList<string> Pieces);
