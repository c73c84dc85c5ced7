using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Hy 3 (Tencent, 2026): norms of queries and keys, and a sigmoid router with shared experts.</summary>
internal sealed class Hy3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Hy3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead, FeedForwardBias = config.Flag("mlp_bias") };
        _ = config.Has("enable_moe_fp32_combine");
        config.ReadPredictionLayers();
        var inner = config.Int("moe_intermediate_size", Facts.Experts!.Inner);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts.PerToken),
            Router = new RouterSettings
            {
                Scoring = RouterScoring.Sigmoid,
                InFloat32 = true,
                Correction = "e_score_correction_bias",
                Normalizes = true,
                SumEpsilon = 1e-20,
                Scale = config.Number("router_scaling_factor", Facts.Experts.Scale),
            },
            Experts = config.Experts(decoder, Facts.Experts, "num_experts", new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, "num_shared_experts", Facts.Experts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        var sparse = config.SparseLayers(decoder.LayerCount, static i => i > 0);
        return decoder.WithMixture(mixture, i => sparse[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("mlp_bias", false), ("moe_intermediate_size", shape.IntermediateSize), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken),
            ("num_shared_experts", 1), ("router_scaling_factor", 2.826));
    }
}
