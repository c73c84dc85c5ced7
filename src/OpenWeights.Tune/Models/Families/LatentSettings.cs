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
    /// <param name="interleaved">Whether neighbouring dimensions are rotated together.</param>
    internal static DecoderConfig CommonWithLatentAttention(this ConfigReader config, FamilyFacts facts, bool interleaved)
    {
        var (plain, rotated) = (config.Int("qk_nope_head_dim", facts.Latent!.Plain), config.Int("qk_rope_head_dim", facts.Latent.Rotated));
        config.Require("qk_rope_head_dim", rotated % 2 == 0, $"{rotated} is odd; rotary embedding needs an even number.");

        // transformers writes these two, which follow from the others.
        _ = (config.Has("head_dim"), config.Has("qk_head_dim"));
        var decoder = config.Common(facts, facts.PartialRotation ? plain + rotated : rotated);
        config.Require(
            "num_key_value_heads", decoder.KeyValueHeadCount == decoder.HeadCount,
            $"{decoder.KeyValueHeadCount} differs from num_attention_heads, which is {decoder.HeadCount}; latent attention has as many of both.");
        var share = decoder.Rope.RotatedShare;
        config.Require(
            "partial_rotary_factor", share == 1 || (int)((plain + rotated) * share) == rotated,
            FormattableString.Invariant($"{share} of {plain + rotated} dimensions differs from qk_rope_head_dim, which is {rotated}."));
        decoder = decoder with { Rope = decoder.Rope with { Interleaved = interleaved, RotatedShare = 1 }, HeadDimension = plain + rotated };
        return decoder.WithLatentAttention(config.LatentAttention(decoder, facts.Latent, plain, rotated));
    }

    /// <summary>Changes the latent attention of all layers.</summary>
    internal static DecoderConfig WithLatentAttention(this DecoderConfig decoder, Func<LatentAttentionSettings, LatentAttentionSettings> change) =>
        decoder.WithLatentAttention(change((LatentAttentionSettings)decoder.Layer(0).Mixer!));

    /// <summary>Scales scores by the square of YaRN's factor for mscale_all_dim, as DeepSeek does.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="usual">mscale_all_dim if the config has no rotary settings.</param>
    internal static DecoderConfig WithYarnScores(this DecoderConfig decoder, ConfigReader config, double usual = 0)
    {
        var rope = config.Object("rope_parameters") ?? config.Object("rope_scaling");
        var all = rope is null ? usual : config.Number(rope["mscale_all_dim"], "mscale_all_dim", 0);
        var scale = decoder.Rope.Factor <= 1 ? 1 : (0.1 * all * Math.Log(decoder.Rope.Factor)) + 1;
        return decoder.WithLatentAttention(attention => attention with { Scale = attention.Scale * scale * scale });
    }

    /// <summary>Reads settings of DeepSeek's own configs that say how it was trained, or what transformers does for all models.</summary>
    internal static void ReadDeepSeekTraining(this ConfigReader config)
    {
        _ = (config.Has("aux_loss_alpha"), config.Has("seq_aux"), config.Has("ep_size"));
        config.Require("moe_layer_freq", config.Int("moe_layer_freq", 1) == 1, "layers without a mixture between those with one are not supported; it must be 1.");
        config.ReadPredictionLayers();
    }

    /// <summary>The settings that a new model's config.json has in addition to the common ones: widths in the proportions of published models.</summary>
    /// <param name="shape">Sizes of the model.</param>
    internal static (string Key, JsonNode? Value)[] NewLatentConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var (width, rotated) = (shape.HiddenSize / shape.Heads, RotatedWidth(shape));
        return
        [
            ("attention_bias", false), ("head_dim", rotated), ("kv_lora_rank", Math.Max(8, shape.HiddenSize / 4)), ("num_key_value_heads", shape.Heads), ("q_lora_rank", null),
            ("qk_nope_head_dim", width), ("qk_rope_head_dim", rotated), ("rms_norm_eps", 1e-6), ("v_head_dim", width),
        ];
    }

    /// <summary>The rotated part of a head of a new model: half as wide as the other.</summary>
    internal static int RotatedWidth(ModelShape shape) => Math.Max(2, shape.HiddenSize / shape.Heads / 4 * 2);

    private static DecoderConfig WithLatentAttention(this DecoderConfig decoder, LatentAttentionSettings attention) =>
        decoder with { Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => decoder.Layer(i) with { Mixer = attention })] };

    private static LatentAttentionSettings LatentAttention(this ConfigReader config, DecoderConfig decoder, LatentFacts facts, int plain, int rotated) => new()
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
    };
}
