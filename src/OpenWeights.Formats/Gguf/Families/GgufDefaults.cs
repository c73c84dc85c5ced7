namespace OpenWeights.Formats.Gguf.Families;

/// <summary>What transformers takes a setting to be that a family's config.json does not have.</summary>
public sealed record GgufDefaults
{
    /// <summary>num_key_value_heads; null for as many as there are query heads.</summary>
    public int? KeyValueHeads { get; init; }

    /// <summary>head_dim; null for hidden_size / num_attention_heads.</summary>
    public int? HeadLength { get; init; }

    /// <summary>max_position_embeddings.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>rope_theta.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>rms_norm_eps.</summary>
    public double NormEpsilon { get; init; } = 1e-6;

    /// <summary>tie_word_embeddings.</summary>
    public bool TiedEmbeddings { get; init; }
}
