using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Families;

/// <summary>
/// Facts of a model family that reading, training and export share: its names, and the defaults of settings that are absent from
/// config.json, as in transformers.
/// </summary>
internal sealed record FamilyFacts
{
    /// <summary>model_type in config.json.</summary>
    public required string ModelType { get; init; }

    /// <summary>Class name in architectures of config.json.</summary>
    public required string ClassName { get; init; }

    /// <summary>Default of num_key_value_heads; null for the number of query heads.</summary>
    public int? KeyValueHeads { get; init; }

    /// <summary>Default of head_dim; null for hidden_size / num_attention_heads.</summary>
    public int? HeadDimension { get; init; }

    /// <summary>Default of max_position_embeddings.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>Default of original_max_position_embeddings, for LongRoPE; null for max_position_embeddings.</summary>
    public int? OriginalMaxPositions { get; init; }

    /// <summary>Default of rope_theta.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Whether the family supports partial_rotary_factor.</summary>
    public bool PartialRotation { get; init; }

    /// <summary>Default of partial_rotary_factor.</summary>
    public double RotatedShare { get; init; } = 1;

    /// <summary>Name of the setting that has the epsilon of the norms.</summary>
    public string NormEpsilonSetting { get; init; } = "rms_norm_eps";

    /// <summary>Whether dropout in a config.json is ignored, because published models of the family have it; otherwise it must be 0.</summary>
    public bool IgnoresDropout { get; init; }

    /// <summary>Default of <see cref="NormEpsilonSetting"/>.</summary>
    public double NormEpsilon { get; init; } = 1e-6;

    /// <summary>Default of tie_word_embeddings.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Name of the activation setting.</summary>
    public string ActivationSetting { get; init; } = "hidden_act";

    /// <summary>Default activation.</summary>
    public string Activation { get; init; } = "silu";

    /// <summary>Default of attention_bias, which applies to all four projections of attention; null if the family has no such setting.</summary>
    public bool? AttentionBias { get; init; }

    /// <summary>Default of sliding_window; null for none.</summary>
    public int? SlidingWindow { get; init; }

    /// <summary>Default of query_pre_attn_scalar, in families that have it.</summary>
    public int QueryScalar { get; init; } = 256;

    /// <summary>Default of attn_logit_softcapping; null for none.</summary>
    public double? ScoreSoftCap { get; init; }

    /// <summary>Default of final_logit_softcapping; null for none.</summary>
    public double? LogitSoftCap { get; init; }

    /// <summary>Facts of its mixtures of experts; null for a dense family.</summary>
    public ExpertFacts? Experts { get; init; }

    /// <summary>Its latent attention; null where it has none.</summary>
    public LatentFacts? Latent { get; init; }

    /// <summary>How its usual checkpoints differ from the names and shapes of its modules; null where they do not.</summary>
    public CheckpointLayout? Layout { get; init; }

    /// <summary>Whether checkpoints may have additional layers after the last that predict further tokens (multi-token prediction); they are kept but not used, as in transformers.</summary>
    public bool HasPredictionLayers { get; init; }

    /// <summary>Whether activations of its models exceed the range of float16 (65,504), so that float16 cannot replace bfloat16.</summary>
    public bool OverflowsInFloat16 { get; init; }
}

/// <summary>Facts of a family's mixtures of experts: names in the checkpoint, and defaults of settings that are absent from config.json.</summary>
internal sealed record ExpertFacts
{
    /// <summary>Default number of experts.</summary>
    public required int Count { get; init; }

    /// <summary>Default of num_experts_per_tok.</summary>
    public required int PerToken { get; init; }

    /// <summary>Default of moe_intermediate_size; null if experts have intermediate_size.</summary>
    public int? Inner { get; init; }

    /// <summary>Default of shared_expert_intermediate_size; null without a shared expert.</summary>
    public int? Shared { get; init; }

    /// <summary>Number of shared experts in families that state that; null for none.</summary>
    public int? SharedCount { get; init; }

    /// <summary>Whether the weights of the chosen experts are divided by their sum (norm_topk_prob).</summary>
    public bool Normalizes { get; init; }

    /// <summary>Factor of the experts' weights (routed_scaling_factor).</summary>
    public double Scale { get; init; } = 1;

    /// <summary>n_group.</summary>
    public int Groups { get; init; } = 1;

    /// <summary>topk_group.</summary>
    public int ChosenGroups { get; init; } = 1;

    /// <summary>What PEFT turns target_modules that name an expert's layers into; null where it does not.</summary>
    public ExpertTargets? Targets { get; init; }
}

/// <summary>
/// Names of an expert's layers in adapters made before experts were stacked. PEFT 0.21 reads such names in target_modules, in the families
/// that it knows, as names of the stacked parameters.
/// </summary>
/// <param name="Gate">The gate projection.</param>
/// <param name="Up">The up projection.</param>
/// <param name="Down">The down projection.</param>
internal sealed record ExpertTargets(string Gate, string Up, string Down)
{
    /// <summary>Those of most families.</summary>
    public static ExpertTargets GateUpDown { get; } = new("gate_proj", "up_proj", "down_proj");

    /// <summary>Those of Mixtral.</summary>
    public static ExpertTargets Mixtral { get; } = new("w1", "w3", "w2");
}

/// <summary>Defaults of latent attention's settings.</summary>
/// <param name="QueryRank">q_lora_rank; null for a full query projection.</param>
/// <param name="Width">kv_lora_rank.</param>
/// <param name="Plain">qk_nope_head_dim.</param>
/// <param name="Rotated">qk_rope_head_dim.</param>
/// <param name="Value">v_head_dim; null for hidden_size / num_attention_heads.</param>
internal sealed record LatentFacts(int? QueryRank, int Width, int Plain, int Rotated, int? Value);

/// <summary>How a family's usual checkpoints store what the reference implementation's modules hold under other names, or as one tensor.</summary>
/// <param name="Renames">Names that differ.</param>
/// <param name="Joins">Tensors that are stored in pieces.</param>
internal sealed record CheckpointLayout(IReadOnlyList<TensorRename> Renames, IReadOnlyList<TensorJoin> Joins)
{
    /// <summary>The starts of names, in the file, of tensors that the model has no modules for, such as <c>mtp.</c>, which predicts further tokens.</summary>
    public IReadOnlyList<string> OtherParts { get; init; } = [];

    /// <summary>The name that a stored tensor has in the modules, or as a piece of one of their tensors.</summary>
    /// <param name="stored">Its name in the file.</param>
    public string ModuleOf(string stored) => new LayoutNames(this).Module(stored);

    /// <summary>What a new checkpoint stores for a module's tensor, in its order.</summary>
    /// <param name="module">The tensor's name.</param>
    /// <param name="shape">Its shape.</param>
    public IReadOnlyList<StoredPart> PartsOf(string module, IReadOnlyList<long> shape)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(shape);
        return new LayoutNames(this).PartsOf(module, shape);
    }
}

/// <summary>A tensor of a checkpoint that holds a part of a module's tensor, or all of it.</summary>
/// <param name="Name">Its name in the file.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="First">Its first element in the module's tensor.</param>
internal sealed record StoredPart(string Name, IReadOnlyList<long> Shape, long First);

/// <summary>A part of a tensor's name that differs.</summary>
/// <param name="Stored">The name in the file, as a regular expression that may match anywhere in it, such as <c>\.block_sparse_moe\.gate\.</c>.</param>
/// <param name="Module">What the match becomes, such as <c>.mlp.gate.</c>; <c>$1</c> is the first group.</param>
internal sealed record TensorRename(string Stored, string Module);

/// <summary>A tensor that is stored in pieces, which follow each other along its first dimension.</summary>
/// <param name="Whole">The end of its name, such as <c>.mlp.experts.gate_up_proj</c>.</param>
/// <param name="Pieces">
/// The ends of the pieces' names in the file, after renaming, such as <c>.mlp.experts.{e}.gate_proj.weight</c> and <c>.mlp.experts.{e}.up_proj.weight</c>.
/// With <c>{e}</c>, the index of an expert, the pieces of an expert are joined, and the experts stacked: [experts, ...].
/// </param>
internal sealed record TensorJoin(string Whole, params IReadOnlyList<string> Pieces);
