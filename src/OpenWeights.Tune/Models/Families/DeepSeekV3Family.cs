using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>DeepSeek-V3 (DeepSeek-AI, 2024): latent attention, and mixtures with sigmoid scores, a correction and groups. Also Moonlight.</summary>
internal sealed class DeepSeekV3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.DeepSeekV3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonWithLatentAttention(Facts, config.Flag("rope_interleave", true)).WithYarnScores(config);
        config.ReadDeepSeekTraining();
        var dense = (int)config.Number("first_k_dense_replace", 3);
        return decoder.WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape,
            [
                .. LatentSettings.NewLatentConfig(shape), ("first_k_dense_replace", 1), ("moe_intermediate_size", shape.IntermediateSize), ("n_group", 1), ("n_routed_experts", shape.Experts),
                ("n_shared_experts", 1), ("num_experts_per_tok", shape.ExpertsPerToken), ("num_nextn_predict_layers", 0), ("topk_group", 1),
            ]);
    }
}
