using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>dots.llm1: Qwen 3's attention with the mixtures of DeepSeek-V3.</summary>
internal sealed class Dots1Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Dots1;

    /// <inheritdoc/>
    public override string Architecture => "dots1";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate", "ffn_gate_inp"),
        .. MixtureKeys.Experts(),
        .. MixtureKeys.Shared(),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")];

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
        RefuseBiases(config, "attention_bias");
        RequireKeyValueHeads(config);
        var layers = config.Int("num_hidden_layers");
        var slides = config.Texts("layer_types")?.Contains("sliding_attention") ?? (layers > config.Number("max_window_layers", 62));
        MixtureKeys.Require(config, "layer_types", !slides || config.IsNull("sliding_window"), "layers without a window");
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteSigmoidRouter(this, config, metadata);
        MixtureKeys.WriteShared(this, config, metadata);
        MixtureKeys.WriteDense(this, config, metadata, (int)config.Number("first_k_dense_replace", 0));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        MixtureKeys.ReadSigmoidMixture(this, file, config);
        config["first_k_dense_replace"] = MixtureKeys.SparseLayers(this, file).TakeWhile(static sparse => !sparse).Count();
        config["sliding_window"] = null;
        return config;
    }
}
