using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>OLMoE: norms over all heads of queries and keys, and a mixture in every layer.</summary>
internal sealed class OlmoeGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Olmoe;

    /// <inheritdoc/>
    public override string Architecture => "olmoe";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireUsualHeads(config);
        RefuseBiases(config, "attention_bias");
        MixtureKeys.Require(config, "norm_topk_prob", !config.Flag("norm_topk_prob"), "weights that are not normalized");
        MixtureKeys.Require(config, "clip_qkv", !config.Has("clip_qkv"), "projections without a limit");
        RequireKeyValueHeads(config);
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), null);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["norm_topk_prob"] = false;
        return config;
    }
}
