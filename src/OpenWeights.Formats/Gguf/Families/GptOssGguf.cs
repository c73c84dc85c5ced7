using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>GPT-OSS: attention sinks, windows in every other layer, and experts with biases and a clamped activation.</summary>
internal sealed class GptOssGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.GptOss;

    /// <inheritdoc/>
    public override string Architecture => "gpt-oss";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules).Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("mlp.router", "ffn_gate_inp"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("self_attn.sinks", "attn_sinks.weight"), ("mlp.experts.down_proj_bias", "ffn_down_exps.bias")];

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits =>
    [
        new GateUpSplit("mlp.experts.gate_up_proj", "ffn_gate_exps.weight", "ffn_up_exps.weight", GateUpOrder.Transposed | GateUpOrder.Interleaved),
        new GateUpSplit("mlp.experts.gate_up_proj_bias", "ffn_gate_exps.bias", "ffn_up_exps.bias", GateUpOrder.Interleaved),
        new TransposedSplit("mlp.experts.down_proj", "ffn_down_exps.weight"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireLayerTypes(config, static layer => layer % 2 == 0);
        MixtureKeys.Require(config, "attention_bias", MixtureKeys.Flag(config, "attention_bias", true), "projections with biases");
        MixtureKeys.Require(config, "swiglu_limit", config.Number("swiglu_limit", 7) == 7, "a limit of 7");
        MixtureKeys.Require(config, "swiglu_alpha", config.Number("swiglu_alpha", 1.702) == 1.702, "an alpha of 1.702");
        MixtureKeys.Require(config, "sliding_window", !config.IsNull("sliding_window"), "windows in every other layer");
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), config.Int("intermediate_size"));
        metadata.Add("gpt-oss.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["attention_bias"] = true;
        config["intermediate_size"] = MixtureKeys.Inner(this, file);
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["num_local_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["sliding_window"] = MixtureKeys.Int(this, file, "attention.sliding_window");
        config["rope_scaling"] ??= new JsonObject { ["rope_type"] = "default" };
        return config;
    }
}
