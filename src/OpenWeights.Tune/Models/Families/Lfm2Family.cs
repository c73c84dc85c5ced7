using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>LFM 2 (Liquid AI, 2025): short convolutions between gates in most layers, attention in the others.</summary>
internal sealed class Lfm2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Lfm2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonLfm(Facts, InnerWidth(config));
        config.RequireUsualLfm(decoder);
        var full = config.Ints("full_attn_idxs");
        var types = LayerTypes.Read(
            config, decoder.LayerCount, i => full?.Contains(i) != false ? LayerTypes.Full : LayerTypes.Convolution, LayerTypes.Full, LayerTypes.Convolution);
        return decoder.WithConvolutions(config, types, _ => decoder.Lfm2Attention());
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var full = new JsonArray([.. Enumerable.Range(0, shape.Layers).Where(static i => i % 3 == 2).Select(static i => (JsonNode)i)]);
        var json = CommonSettings.NewConfig(
            this, shape, ("block_auto_adjust_ff_dim", false), ("conv_L_cache", 3), ("conv_bias", false), ("full_attn_idxs", full), ("norm_eps", 1e-5));
        _ = json.Remove("hidden_act");
        _ = json.Remove("rms_norm_eps");
        return json;
    }

    // The name of the first configs, if there, and two thirds of it, rounded up to a multiple, if it is to be adjusted.
    private static int InnerWidth(ConfigReader config)
    {
        var given = config.Int("intermediate_size", 12288);
        var width = config.Has("block_ff_dim") ? config.Int("block_ff_dim") : given;
        var multiplier = config.OptionalNumber("block_ffn_dim_multiplier", 1);
        var multiple = config.Int("block_multiple_of", 256);
        if (!config.Flag("block_auto_adjust_ff_dim", true))
        {
            return width;
        }

        var adjusted = (int)(2.0 * width / 3);
        return multiplier is { } factor ? ((int)(factor * adjusted) + multiple - 1) / multiple * multiple : adjusted;
    }
}
