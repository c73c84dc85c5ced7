using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3-MoE (Yang et al., 2025): Qwen3 with mixtures of experts.</summary>
public sealed class Qwen3MoeFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 4, MaxPositions = 32768, AttentionBias = false };

    /// <inheritdoc/>
    public string ModelType => "qwen3_moe";

    /// <inheritdoc/>
    public string Architecture => "Qwen3MoeForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);

        // Later versions of its config have no max_window_layers, which means all layers.
        return (config.Common(ModelType, s_defaults) with { QueryKeyNorm = QueryKeyNorm.PerHead })
            .WithQwenWindows(config, window: 4096, firstLayer: 0)
            .WithQwenExperts(config, experts: 128, perToken: 8, inner: 768, shared: null);
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
