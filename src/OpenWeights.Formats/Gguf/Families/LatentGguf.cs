using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Families with latent attention.</summary>
internal abstract class LatentGguf : GgufFamily
{
    /// <summary>llama.cpp multiplies by these without looking for a LoRA file's update.</summary>
    public override IReadOnlyList<string> ModulesWithoutLora => ["attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.Gguf is not ("attn_k" or "attn_v")),
        ("self_attn.q_a_proj", "attn_q_a"),
        ("self_attn.q_a_layernorm", "attn_q_a_norm"),
        ("self_attn.q_b_proj", "attn_q_b"),
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
        ("self_attn.kv_b_proj", "attn_kv_b"),
    ];

    /// <summary>q_lora_rank; null for a full query projection.</summary>
    /// <param name="config">The model's config.json.</param>
    protected int? QueryRank(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.IsNull("q_lora_rank") ? null : config.Has("q_lora_rank") ? config.Int("q_lora_rank") : Facts.Latent!.QueryRank;
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias", "mlp_bias");
        void Add(string key, int number) => metadata.Add($"{Architecture}.attention.{key}", (uint)number);
        Add("kv_lora_rank", LatentLength(config));
        Add("q_lora_rank", QueryRank(config) ?? 0);
        if (CachesLatent)
        {
            Add("key_length_mla", HeadKeyLength(config));
            Add("value_length_mla", HeadValueLength(config));
        }

        if (RotaryTensors(config).Any(static t => t.Name == "rope_freqs.weight"))
        {
            throw config.Error("rope_scaling", "llama.cpp does not support rotary scaling of type llama3 for this family.");
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var (metadata, heads) = (file.Metadata, MixtureKeys.Int(this, file, "attention.head_count"));
        int Width(string key) => metadata.Int($"{Architecture}.attention.{key}_mla") ?? MixtureKeys.Int(this, file, $"attention.{key}");
        var rotated = MixtureKeys.Int(this, file, "rope.dimension_count");
        config["num_key_value_heads"] = heads;
        config["kv_lora_rank"] = MixtureKeys.Int(this, file, "attention.kv_lora_rank");
        config["q_lora_rank"] = file.Contains("blk.0.attn_q_a.weight") ? MixtureKeys.Int(this, file, "attention.q_lora_rank") : null;
        config["qk_nope_head_dim"] = Width("key_length") - rotated;
        config["qk_rope_head_dim"] = rotated;
        config["v_head_dim"] = Width("value_length");
        config["attention_bias"] = false;
        _ = (config.Remove("head_dim"), config.Remove("partial_rotary_factor"));
        return config;
    }

    /// <summary>Whether keys and values are made of the latent vector only when needed, so that llama.cpp's cache has one head, of latent vectors.</summary>
    protected virtual bool CachesLatent => true;

    /// <inheritdoc/>
    protected override bool RotatesPart => true;

    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return CachesLatent ? 1u : (uint)config.Int("num_attention_heads");
    }

    /// <inheritdoc/>
    protected override int KeyLength(ConfigJson config) => CachesLatent ? LatentLength(config) + RotatedLength(config) : HeadKeyLength(config);

    /// <inheritdoc/>
    protected override int ValueLength(ConfigJson config) => CachesLatent ? LatentLength(config) : HeadValueLength(config);

    private int LatentLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("kv_lora_rank", Facts.Latent!.Width);
    }

    private int HeadKeyLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("qk_nope_head_dim", Facts.Latent!.Plain) + RotatedLength(config);
    }

    private int HeadValueLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("v_head_dim", Facts.Latent!.Value ?? (config.Int("hidden_size") / config.Int("num_attention_heads")));
    }

    /// <inheritdoc/>
    protected override int RotatedLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("qk_rope_head_dim", Facts.Latent!.Rotated);
    }
}

/// <summary>MiniCPM 3: latent attention, with factors of embeddings, residuals and logits that llama.cpp has in its code.</summary>
internal sealed class MiniCpm3Gguf : LatentGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.MiniCpm3;

    /// <inheritdoc/>
    public override string Architecture => "minicpm3";

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        base.WriteSettings(config, metadata);
        MixtureKeys.Require(config, "scale_emb", config.Number("scale_emb", 12) == 12, "embeddings multiplied by 12");
        MixtureKeys.Require(config, "scale_depth", !config.IsNull("scale_depth") && config.Number("scale_depth", 1.4) == 1.4, "a depth scale of 1.4");
        MixtureKeys.Require(config, "dim_model_base", (config.IsNull("dim_model_base") ? config.Int("hidden_size") : config.Int("dim_model_base", 256)) == 256, "logits for a width of 256");
        MixtureKeys.Require(config, "q_lora_rank", QueryRank(config) is not null, "queries through a latent vector");
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);
        (config["scale_emb"], config["scale_depth"], config["dim_model_base"], config["mlp_bias"]) = (12, 1.4, 256, false);
        return config;
    }

    /// <inheritdoc/>
    protected override bool CachesLatent => false;
}
