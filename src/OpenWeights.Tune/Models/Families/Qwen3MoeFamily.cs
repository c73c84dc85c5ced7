using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3-MoE (Yang et al., 2025): Qwen3 with mixtures of experts.</summary>
internal sealed class Qwen3MoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen3Moe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);

        // Later versions of its config have no max_window_layers, which means all layers.
        return (config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead })
            .WithQwenWindows(config, Facts.SlidingWindow, firstLayer: 0)
            .WithQwenExperts(config, Facts.Experts!);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("moe_intermediate_size", shape.IntermediateSize), ("norm_topk_prob", true), ("num_experts", shape.Experts),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("use_sliding_window", false));
    }
}
