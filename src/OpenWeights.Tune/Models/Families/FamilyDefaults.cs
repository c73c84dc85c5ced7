namespace OpenWeights.Tune.Models.Families;

/// <summary>What a family takes a setting to be that its config.json does not have, as transformers' class for that config does.</summary>
internal sealed record FamilyDefaults
{
    /// <summary>num_key_value_heads; null for as many as there are query heads.</summary>
    internal int? KeyValueHeads { get; init; }

    /// <summary>head_dim; null for hidden_size / num_attention_heads.</summary>
    internal int? HeadDimension { get; init; }

    /// <summary>max_position_embeddings.</summary>
    internal int MaxPositions { get; init; } = 2048;

    /// <summary>rope_theta.</summary>
    internal double RopeTheta { get; init; } = 10000;

    /// <summary>rms_norm_eps.</summary>
    internal double NormEpsilon { get; init; } = 1e-6;

    /// <summary>tie_word_embeddings.</summary>
    internal bool TiedEmbeddings { get; init; }

    /// <summary>The setting that names the activation.</summary>
    internal string ActivationSetting { get; init; } = "hidden_act";

    /// <summary>The activation.</summary>
    internal string Activation { get; init; } = "silu";

    /// <summary>Whether attention's four projections have a bias where attention_bias says so; null where the family has no such setting.</summary>
    internal bool? AttentionBias { get; init; }

    /// <summary>Whether the family rotates a part of each head where partial_rotary_factor says so.</summary>
    internal bool PartialRotation { get; init; }

    /// <summary>original_max_position_embeddings, for LongRoPE; null for max_position_embeddings.</summary>
    internal int? OriginalMaxPositions { get; init; }

    /// <summary>The kind of layer whose rotary settings are the decoder's own, where there are several.</summary>
    internal string RopeLayerType { get; init; } = LayerTypes.Full;
}
