using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>LFM 2 with experts (Liquid AI, 2025): sigmoid scores with a correction, after a few dense layers.</summary>
internal sealed class Lfm2MoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Lfm2Moe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonLfm(Facts, config.Int("intermediate_size", 7168));
        config.RequireUsualLfm(decoder);
        var facts = Facts.Experts!;
        var types = LayerTypes.Read(config, decoder.LayerCount, static _ => LayerTypes.Full, LayerTypes.Full, LayerTypes.Convolution);
        var dense = (int)config.Number("num_dense_layers", 2);
        var mixture = new MixtureSettings
        {
            ModuleName = "feed_forward",
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Router = new RouterSettings
            {
                Scoring = RouterScoring.Sigmoid,
                Correction = config.Flag("use_expert_bias", true) ? "expert_bias" : null,
                Normalizes = config.Flag("norm_topk_prob", facts.Normalizes),
                SumEpsilon = 1e-6,
                Scale = config.Number("routed_scaling_factor", facts.Scale),
            },
            Experts = config.Experts(decoder, facts, "num_experts", config.Dimension("moe_intermediate_size", facts.Inner)),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder.WithConvolutions(config, types, _ => decoder.Lfm2Attention()).WithMixture(mixture, i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var types = new JsonArray([.. Enumerable.Range(0, shape.Layers).Select(static i => (JsonNode)(i % 3 == 2 ? LayerTypes.Full : LayerTypes.Convolution))]);
        var json = CommonSettings.NewConfig(
            this, shape, ("conv_L_cache", 3), ("conv_bias", false), ("layer_types", types), ("moe_intermediate_size", shape.IntermediateSize), ("norm_eps", 1e-5), ("norm_topk_prob", true),
            ("num_dense_layers", 1), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken), ("routed_scaling_factor", 1.0), ("use_expert_bias", true));
        _ = json.Remove("hidden_act");
        _ = json.Remove("rms_norm_eps");
        return json;
    }
}
