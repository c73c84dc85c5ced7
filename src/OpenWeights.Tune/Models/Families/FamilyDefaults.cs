namespace OpenWeights.Tune.Models.Families;

/// <summary>Defaults of a family for settings absent in its config.json, as in transformers' config class.</summary>
internal sealed record FamilyDefaults
{
    /// <summary>Default of num_key_value_heads; null for the number of query heads.</summary>
    internal int? KeyValueHeads { get; init; }

    /// <summary>Default of head_dim; null for hidden_size / num_attention_heads.</summary>
    internal int? HeadDimension { get; init; }

    /// <summary>Default of max_position_embeddings.</summary>
    internal int MaxPositions { get; init; } = 2048;

    /// <summary>Default of rope_theta.</summary>
    internal double RopeTheta { get; init; } = 10000;

    /// <summary>Default of rms_norm_eps.</summary>
    internal double NormEpsilon { get; init; } = 1e-6;

    /// <summary>Default of tie_word_embeddings.</summary>
    internal bool TiedEmbeddings { get; init; }

    /// <summary>Name of the setting for the activation function.</summary>
    internal string ActivationSetting { get; init; } = "hidden_act";

    /// <summary>Default activation function.</summary>
    internal string Activation { get; init; } = "silu";

    /// <summary>
    /// Default of attention_bias, which applies to all four projections of attention; null if the family has no such setting.
    /// </summary>
    internal bool? AttentionBias { get; init; }

    /// <summary>Whether the family supports partial_rotary_factor.</summary>
    internal bool PartialRotation { get; init; }

    /// <summary>Default of original_max_position_embeddings, for LongRoPE; null for max_position_embeddings.</summary>
    internal int? OriginalMaxPositions { get; init; }

    /// <summary>The layer type whose rotary settings are the decoder's, if there are several.</summary>
    internal string RopeLayerType { get; init; } = LayerTypes.Full;
}
