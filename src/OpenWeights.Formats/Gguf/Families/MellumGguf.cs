using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Mellum 2: Qwen 3 with experts, and windows in some layers.</summary>
internal sealed class MellumGguf : GgufFamily
{
    private const string PatternKey = "mellum.attention.sliding_window_pattern";
    private const string WindowKey = "mellum.attention.sliding_window";
    private const string Full = "full_attention";
    private const string Sliding = "sliding_attention";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Mellum;

    /// <inheritdoc/>
    public override string Architecture => "mellum";

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
        RefuseBiases(config, "attention_bias");
        MixtureKeys.Require(config, "norm_topk_prob", MixtureKeys.Flag(config, "norm_topk_prob", true), "normalized weights");
        MixtureKeys.Require(config, "mlp_layer_types", config.Texts("mlp_layer_types")?.Contains("dense") != true, "a mixture in every layer");
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        var types = config.Texts("layer_types") ?? [];
        if (types.Contains(Sliding) && !config.IsNull("sliding_window"))
        {
            var (full, sliding) = (RopeTheta(config), RopeScaling.Theta(config, Sliding, 10000));
            MixtureKeys.Require(config, "rope_parameters", full == sliding, "the same rotary base in all layers");
            metadata.Add(WindowKey, (uint)config.Int("sliding_window", Facts.SlidingWindow));
            metadata.Add(PatternKey, types.Select(static t => t == Sliding).ToArray());
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var slides = LayerPattern.Read(file.Metadata, PatternKey, MixtureKeys.Int(this, file, "block_count"), usualPeriod: 4);
        var window = file.Metadata.Int(WindowKey) is { } size and > 0 ? size : (int?)null;
        config["layer_types"] = new JsonArray([.. slides.Select(s => (JsonNode)(s && window is not null ? Sliding : Full))]);
        config["sliding_window"] = window;
        config["moe_intermediate_size"] = MixtureKeys.Inner(this, file);
        config["norm_topk_prob"] = true;
        config["num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["num_experts_per_tok"] = MixtureKeys.Int(this, file, "expert_used_count");
        var (scaling, theta) = (config["rope_scaling"] as JsonObject, config["rope_theta"]!);
        _ = (config.Remove("rope_scaling"), config.Remove("rope_theta"));
        var rotation = scaling ?? new JsonObject { ["rope_type"] = "default" };
        rotation["rope_theta"] = theta.DeepClone();
        config["rope_parameters"] = new JsonObject { [Full] = rotation, [Sliding] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = theta.DeepClone() } };
        return config;
    }

    /// <inheritdoc/>
    protected override double RopeTheta(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return RopeScaling.Theta(config, Full, 500000);
    }
}
