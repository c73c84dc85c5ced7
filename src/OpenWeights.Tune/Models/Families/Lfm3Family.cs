using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>LFM 3 (Liquid AI, 2026): LFM 2 with sliding windows, norms of what parts give, and attention with a gate of each head.</summary>
internal sealed class Lfm3Family : IModelFamily
{
    private static readonly string[] s_types = [LayerTypes.Full, LayerTypes.Sliding, LayerTypes.Convolution];

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Lfm3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var common = config.CommonLfm(Facts, config.Int("intermediate_size"));
        var after = config.Flag("use_sandwich_norm", true);
        var decoder = common with
        {
            NormPlacement = new NormPlacement("operator_norm", after ? "post_operator_norm" : null, "ffn_norm", after ? "post_ffn_norm" : null),
        };
        var attention = decoder.Attention with
        {
            OutputGate = config.Flag("use_attention_gate", true) ? OutputGate.PerHead : OutputGate.None,
            Names = new AttentionNames { Gate = "g_proj" },
        };
        var types = LayerTypes.Read(config, decoder.LayerCount, static i => i % 2 == 0 ? LayerTypes.Convolution : LayerTypes.Full, s_types);
        int? window = types.Contains(LayerTypes.Sliding) ? config.Int("sliding_window") : null;
        var local = window is null ? decoder.Rope : config.Rope(decoder.MaxPositions, decoder.HeadDimension, Facts.RopeTheta, layerType: LayerTypes.Sliding);
        return decoder.WithConvolutions(config, types, type => type == LayerTypes.Sliding
            ? new LayerConfig { Rope = local, SlidingWindow = window, Mixer = attention with { Rope = local, SlidingWindow = window } }
            : new LayerConfig { Rope = decoder.Rope, Mixer = attention with { Rope = decoder.Rope } });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var types = new JsonArray([.. Enumerable.Range(0, shape.Layers).Select(static i => (JsonNode)(i % 2 == 0 ? LayerTypes.Convolution : i % 4 == 1 ? LayerTypes.Sliding : LayerTypes.Full))]);
        var json = CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("conv_L_cache", 5), ("conv_bias", false), ("layer_types", types), ("norm_eps", 1e-5), ("sliding_window", 512), ("use_attention_gate", true),
            ("use_sandwich_norm", true));
        _ = json.Remove("hidden_act");
        _ = json.Remove("rms_norm_eps");
        return json;
    }
}
