using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the families with latent attention.</summary>
internal static class LatentSettings
{
    // transformers gives these two norms no epsilon of the config.
    private const double LatentNormEpsilon = 1e-6;

    /// <summary>The common settings, with latent attention in all layers.</summary>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="rotatesNeighbours">Whether neighbouring dimensions are rotated together.</param>
    internal static DecoderConfig CommonWithLatentAttention(this ConfigReader config, FamilyFacts facts, bool rotatesNeighbours)
    {
        var latent = facts.Latent!;
        var rotated = config.Int("qk_rope_head_dim", latent.Rotated);
        config.Require("qk_rope_head_dim", rotated % 2 == 0, $"{rotated} is odd; rotary embedding needs an even number.");

        // transformers writes these two, which follow from the others.
        _ = config.Has("head_dim") && config.Has("qk_head_dim");
        var decoder = config.Common(facts, rotated);
        config.Require(
            "num_key_value_heads", decoder.KeyValueHeadCount == decoder.HeadCount,
            $"{decoder.KeyValueHeadCount} differs from num_attention_heads, which is {decoder.HeadCount}; latent attention has as many of both.");
        var attention = config.LatentAttention(decoder, latent, rotated, rotatesNeighbours);
        return decoder with
        {
            HeadDimension = attention.KeyWidth,
            Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => decoder.Layer(i) with { Mixer = attention })],
        };
    }

    /// <summary>The settings that a new model's config.json has in addition to the common ones: widths in the proportions of published models.</summary>
    /// <param name="shape">Sizes of the model.</param>
    internal static (string Key, JsonNode? Value)[] NewLatentConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var width = shape.HiddenSize / shape.Heads;
        var rotated = Math.Max(2, width / 4 * 2);
        return
        [
            ("attention_bias", false), ("head_dim", rotated), ("kv_lora_rank", Math.Max(8, shape.HiddenSize / 4)), ("num_key_value_heads", shape.Heads), ("q_lora_rank", null),
            ("qk_nope_head_dim", width), ("qk_rope_head_dim", rotated), ("rms_norm_eps", 1e-6), ("v_head_dim", width),
        ];
    }

    private static LatentAttentionSettings LatentAttention(this ConfigReader config, DecoderConfig decoder, LatentFacts facts, int rotated, bool rotatesNeighbours)
    {
        var plain = config.Int("qk_nope_head_dim", facts.Plain);
        return new LatentAttentionSettings
        {
            HiddenSize = decoder.HiddenSize,
            HeadCount = decoder.HeadCount,
            QueryRank = config.OptionalInt("q_lora_rank", facts.QueryRank),
            LatentWidth = config.Int("kv_lora_rank", facts.Width),
            PlainWidth = plain,
            RotatedWidth = rotated,
            ValueWidth = config.OptionalInt("v_head_dim", facts.Value) ?? (decoder.HiddenSize / decoder.HeadCount),
            Scale = 1 / Math.Sqrt(plain + rotated),
            HasBias = config.Flag("attention_bias"),
            Norm = new RmsNormSettings(LatentNormEpsilon),
            Rope = decoder.Rope,
            RotatesNeighbours = rotatesNeighbours,
        };
    }
}
