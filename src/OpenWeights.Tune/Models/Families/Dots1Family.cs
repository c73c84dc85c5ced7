using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>dots.llm1 (rednote, 2025): Qwen3's attention with the mixtures of DeepSeek-V3.</summary>
internal sealed class Dots1Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Dots1;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead };
        var first = (int)config.Number("max_window_layers", 62);
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => i >= first);
        var dense = (int)config.Number("first_k_dense_replace", 0);
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides)
            .WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("first_k_dense_replace", 1), ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("n_shared_experts", 1),
            ("norm_topk_prob", true), ("num_experts_per_tok", shape.ExpertsPerToken), ("sliding_window", null));
    }
}
