using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>MiMo-V2-Flash (Xiaomi, 2025): values of another width, sinks and twice the key/value heads in layers with a window, and the mixtures of DeepSeek-V3.</summary>
internal sealed class MiMoV2FlashFamily : IModelFamily
{
    private const double RotatedShare = 0.334;

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.MiMoV2Flash;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { AttentionOutputBias = false };
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => i != 0 && (i + 1) % 6 != 0);
        decoder = decoder with { Rope = config.RopeOf(decoder, LayerTypes.Full, 5e6, RotatedShare) };
        var local = config.RopeOf(decoder, LayerTypes.Sliding, 10000, RotatedShare);
        var sparse = config.SparseLayers(decoder.LayerCount, static i => i > 0);
        var (width, multiplier) = (config.Int("v_head_dim", 128), config.OptionalNumber("attention_value_scale", 0.707) ?? 1);
        var full = decoder.Attention with { ValueHeadDimension = width, ValueMultiplier = multiplier };
        var sliding = full with { HasSinks = true, KeyValueHeadCount = 2 * full.KeyValueHeadCount, SlidingWindow = config.OptionalInt("sliding_window", Facts.SlidingWindow), Rope = local };
        config.Require("num_key_value_heads", decoder.HeadCount % sliding.KeyValueHeadCount == 0, $"twice of it, as layers with a window have, does not divide num_attention_heads, which is {decoder.HeadCount}.");
        return decoder.WithLayers((layer, i) => layer with { Mixer = slides[i] ? sliding : full with { Rope = decoder.Rope }, Rope = slides[i] ? local : decoder.Rope })
            .WithMixture(config.SigmoidMixture(decoder, Facts.Experts!), i => sparse[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("moe_intermediate_size", shape.IntermediateSize), ("n_routed_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken),
            ("num_key_value_heads", 1), ("partial_rotary_factor", 0.5), ("sliding_window", 128), ("v_head_dim", shape.HiddenSize / shape.Heads));
    }
}
