using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>MiniCPM 3: latent attention, and factors of embeddings, residuals and logits that llama.cpp takes from the published model.</summary>
public sealed class MiniCpm3Gguf : GgufFamily
{
    private static readonly (string Setting, double Value)[] s_fixed = [("scale_emb", 12), ("scale_depth", 1.4), ("dim_model_base", 256)];

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.MiniCpm3;

    /// <inheritdoc/>
    public override string Architecture => "minicpm3";

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => ["attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b"];

    /// <inheritdoc/>
    protected override bool RotatesPart => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("self_attn.q_proj" or "self_attn.k_proj" or "self_attn.v_proj")),
        ("self_attn.q_a_proj", "attn_q_a"),
        ("self_attn.q_a_layernorm", "attn_q_a_norm"),
        ("self_attn.q_b_proj", "attn_q_b"),
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
        ("self_attn.kv_b_proj", "attn_kv_b"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias", "mlp_bias");
        foreach (var (setting, value) in s_fixed)
        {
            if (config.IsNull(setting) || config.Number(setting, value) != value)
            {
                throw config.Error(setting, FormattableString.Invariant($"llama.cpp assumes {value} for this family, so the result would differ from the model."));
            }
        }

        metadata.Add("minicpm3.attention.q_lora_rank", (uint)config.Int("q_lora_rank", Facts.Latent!.QueryRank));
        metadata.Add("minicpm3.attention.kv_lora_rank", (uint)config.Int("kv_lora_rank", Facts.Latent!.Width));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var (config, metadata) = (base.ReadSettings(file), file.Metadata);
        int Int(string key) => metadata.Int($"minicpm3.{key}") ?? throw metadata.Error($"minicpm3.{key}", "this key is missing.");
        var rotated = Int("rope.dimension_count");
        config["q_lora_rank"] = Int("attention.q_lora_rank");
        config["kv_lora_rank"] = Int("attention.kv_lora_rank");
        config["qk_rope_head_dim"] = rotated;
        config["qk_nope_head_dim"] = Int("attention.key_length") - rotated;
        config["v_head_dim"] = Int("attention.value_length");
        _ = config.Remove("head_dim");
        foreach (var (setting, value) in s_fixed)
        {
            config[setting] = value;
        }

        return config;
    }

    /// <inheritdoc/>
    protected override int KeyLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("qk_nope_head_dim", Facts.Latent!.Plain) + RotatedLength(config);
    }

    /// <inheritdoc/>
    protected override int ValueLength(ConfigJson config)
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
