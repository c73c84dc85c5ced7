using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Hy 3: norms of queries and keys, and a sigmoid router with shared experts.</summary>
internal sealed class Hy3Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Hy3;

    /// <inheritdoc/>
    public override string Architecture => "hy_v3";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.router.gate", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
        .. MixtureKeys.Shared("mlp.shared_mlp"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.expert_bias", "exp_probs_b")];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias", "mlp_bias");
        var inner = MixtureKeys.Inner(config, Facts);
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), inner);
        MixtureKeys.WriteRouter(this, metadata, GatingFunction.Sigmoid, normalizes: true, config.Number("router_scaling_factor", Facts.Experts!.Scale));
        MixtureKeys.WriteShared(this, config, metadata, "num_shared_experts");
        metadata.Add("hy_v3.expert_shared_feed_forward_length", (uint)(inner * (int)config.Number("num_shared_experts", Facts.Experts.SharedCount)));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var inner = MixtureKeys.Inner(this, file);
        config["mlp_layer_types"] = MixtureKeys.LayerTypes(this, file);
        config["moe_intermediate_size"] = inner;
        config["num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["num_shared_experts"] = (file.Metadata.Int("hy_v3.expert_shared_feed_forward_length") ?? inner) / inner;
        config["router_scaling_factor"] = MixtureKeys.Scale(this, file);
        return config;
    }
}
