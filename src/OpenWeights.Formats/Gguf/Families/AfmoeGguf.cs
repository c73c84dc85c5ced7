using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Arcee's Trinity models: gated attention with windows in three of four layers, the others without positions, and a sigmoid router.</summary>
internal sealed class AfmoeGguf : GgufFamily
{
    private const string WindowKey = "afmoe.attention.sliding_window";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Afmoe;

    /// <inheritdoc/>
    public override string Architecture => "afmoe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.gate_proj", "attn_gate"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_mlp_layernorm", "ffn_norm"),
        ("post_mlp_layernorm", "post_ffw_norm"),
        ("mlp.router.gate", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
        .. MixtureKeys.Shared(),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.expert_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        RequireLayerTypes(config, static layer => (layer + 1) % 4 != 0);
        MixtureKeys.Require(config, "global_attn_every_n_layers", config.Texts("layer_types") is not null || config.Int("global_attn_every_n_layers", 4) == 4, "every fourth layer without a window");
        MixtureKeys.Require(config, "mup_enabled", config.Flag("mup_enabled"), "embeddings multiplied by the square root of hidden_size (mup_enabled: true)");
        MixtureKeys.Require(config, "sliding_window", !config.IsNull("sliding_window"), "layers with a window");
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteRouter(this, metadata, GatingFunction.Sigmoid, normalizes: true, config.Number("route_scale", 1));
        MixtureKeys.WriteShared(this, config, metadata, "num_shared_experts", isRequired: false);
        MixtureKeys.WriteDense(this, config, metadata, (int)config.Number("num_dense_layers", 1));
        metadata.Add(WindowKey, (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["global_attn_every_n_layers"] = 4;
        config["moe_intermediate_size"] = MixtureKeys.Inner(this, file);
        config["mup_enabled"] = true;
        config["num_dense_layers"] = MixtureKeys.SparseLayers(this, file).TakeWhile(static sparse => !sparse).Count();
        config["num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["num_shared_experts"] = file.Metadata.Int("afmoe.expert_shared_count") ?? 0;
        config["route_scale"] = MixtureKeys.Scale(this, file);
        config["sliding_window"] = MixtureKeys.Int(this, file, "attention.sliding_window");
        return config;
    }
}
