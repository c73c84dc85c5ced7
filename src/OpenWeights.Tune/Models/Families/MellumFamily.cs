using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mellum 2 (JetBrains, 2026): Qwen3-MoE with windows in some layers, and a rotary base for each kind of layer.</summary>
internal sealed class MellumFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mellum;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead };
        var slides = LayerTypes.Read(config, decoder.LayerCount, static _ => false);
        decoder = decoder with { Rope = config.RopeOf(decoder, LayerTypes.Full, 500000) };
        var local = config.RopeOf(decoder, LayerTypes.Sliding, 10000);
        var sparse = config.SparseLayers(decoder.LayerCount, static _ => true);
        decoder = decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides).WithLayers((layer, i) => layer with { Rope = slides[i] ? local : decoder.Rope });
        var router = new RouterSettings { Normalizes = config.Flag("norm_topk_prob", true) };
        return decoder.WithUsualMixture(config, Facts.Experts!, config.Has("num_experts") ? "num_experts" : "num_local_experts", router, isSparse: i => sparse[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("moe_intermediate_size", shape.IntermediateSize), ("norm_topk_prob", true), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken),
            ("rope_scaling", null), ("sliding_window", 1024));
    }
}
