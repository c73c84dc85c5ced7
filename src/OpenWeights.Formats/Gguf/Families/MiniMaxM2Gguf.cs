using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>MiniMax-M2: norms over all heads of queries and keys, a part of each head rotated, and a sigmoid router.</summary>
internal sealed class MiniMaxM2Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.MiniMaxM2;

    /// <inheritdoc/>
    public override string Architecture => "minimax-m2";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("block_sparse_moe.gate", "ffn_gate_inp"),
        .. MixtureKeys.MixtralExperts,
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), config.Int("intermediate_size"));
        metadata.Add("minimax-m2.expert_gating_func", (uint)GatingFunction.Sigmoid);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        config["num_local_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        return config;
    }

    /// <inheritdoc/>
    protected override int RotatedLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Has("rotary_dim") ? config.Int("rotary_dim") : base.RotatedLength(config);
    }
}
