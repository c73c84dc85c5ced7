using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>GLM 4.5 to 4.7: half of each head rotated, and the mixtures of DeepSeek-V3.</summary>
internal class Glm4MoeGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Glm4Moe;

    /// <inheritdoc/>
    public override string Architecture => "glm4moe";

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => ["attn_output", "ffn_down", "ffn_down_shexp"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
        .. MixtureKeys.Shared(),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")];

    /// <summary>first_k_dense_replace if the config has none.</summary>
    protected virtual int DenseLayers => 1;

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("n_routed_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteSigmoidRouter(this, config, metadata);
        MixtureKeys.WriteShared(this, config, metadata);
        MixtureKeys.WriteDense(this, config, metadata, (int)config.Number("first_k_dense_replace", DenseLayers));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        MixtureKeys.ReadSigmoidMixture(this, file, config);
        config["first_k_dense_replace"] = MixtureKeys.SparseLayers(this, file).TakeWhile(static sparse => !sparse).Count();
        config["use_qk_norm"] = file.Contains("blk.0.attn_q_norm.weight");
        return config;
    }
}

/// <summary>Solar Open, which llama.cpp runs as GLM 4.5 with whole heads rotated and a mixture in every layer; read, a file of it is one of those.</summary>
internal sealed class SolarOpenGguf : Glm4MoeGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.SolarOpen;

    /// <inheritdoc/>
    protected override int DenseLayers => 0;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => false;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        base.WriteSettings(config, metadata);
        MixtureKeys.Require(config, "first_k_dense_replace", config.Number("first_k_dense_replace", 0) == 0, "a mixture in every layer");
    }
}
