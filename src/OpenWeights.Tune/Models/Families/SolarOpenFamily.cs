using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Solar Open (Upstage, 2025): the mixtures of DeepSeek-V3 in every layer.</summary>
internal sealed class SolarOpenFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.SolarOpen;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { AttentionOutputBias = false };
        config.ReadPredictionLayers();
        return decoder.WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), static _ => true);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("n_shared_experts", 1),
            ("num_experts_per_tok", shape.ExpertsPerToken));
    }
}
