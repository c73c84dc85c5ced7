using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen1.5-MoE and Qwen2-MoE (Yang et al., 2024): Qwen2 with mixtures of experts, including a gated shared expert.</summary>
internal sealed class Qwen2MoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen2Moe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { QueryKeyValueBias = config.Flag("qkv_bias", true) })
            .WithQwenWindows(config, Facts.SlidingWindow, firstLayer: 28)
            .WithQwenExperts(config, Facts.Experts!);
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
