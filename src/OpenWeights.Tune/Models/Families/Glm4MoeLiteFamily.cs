using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>GLM 4.7 Flash (Z.ai, 2026): DeepSeek-V3's latent attention and mixtures.</summary>
internal sealed class Glm4MoeLiteFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Glm4MoeLite;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonWithLatentAttention(Facts, config.Flag("rope_interleave", true)).WithYarnScores(config);
        config.ReadDeepSeekTraining();
        var dense = (int)config.Number("first_k_dense_replace", 1);
        var sparse = config.SparseLayers(decoder.LayerCount, i => i >= dense);
        return decoder.WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), i => sparse[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape,
            [
                .. LatentSettings.NewLatentConfig(shape), ("mlp_layer_types", new JsonArray([.. Enumerable.Range(0, shape.Layers).Select(static i => JsonValue.Create(i == 0 ? "dense" : "sparse"))])),
                ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("n_shared_experts", 1), ("num_experts_per_tok", shape.ExpertsPerToken),
            ]);
    }
}
