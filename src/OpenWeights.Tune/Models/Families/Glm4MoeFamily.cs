using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>GLM 4.5 to 4.7 (Z.ai, 2025): half of each head rotated, and the mixtures of DeepSeek-V3.</summary>
internal sealed class Glm4MoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Glm4Moe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { AttentionOutputBias = false };
        decoder = decoder with { QueryKeyNorm = config.Flag("use_qk_norm") ? QueryKeyNorm.PerHead : QueryKeyNorm.None };
        config.ReadPredictionLayers();
        var dense = (int)config.Number("first_k_dense_replace", 1);
        return decoder.WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", true), ("first_k_dense_replace", 1), ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("n_shared_experts", 1),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("partial_rotary_factor", 0.5), ("use_qk_norm", true));
    }
}
