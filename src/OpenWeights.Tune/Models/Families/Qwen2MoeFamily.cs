using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen1.5-MoE and Qwen2-MoE (Yang et al., 2024): Qwen2 with mixtures of experts, including a gated shared expert.</summary>
public sealed class Qwen2MoeFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 16, MaxPositions = 32768 };

    /// <inheritdoc/>
    public string ModelType => "qwen2_moe";

    /// <inheritdoc/>
    public string Architecture => "Qwen2MoeForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(ModelType, s_defaults) with { QueryKeyValueBias = config.Flag("qkv_bias", true) })
            .WithQwenWindows(config, window: 4096, firstLayer: 28)
            .WithQwenExperts(config, experts: 60, perToken: 4, inner: 1408, shared: 5632);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("moe_intermediate_size", shape.IntermediateSize), ("norm_topk_prob", false), ("num_experts", shape.Experts),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("shared_expert_intermediate_size", shape.IntermediateSize), ("use_sliding_window", false));
    }
}
