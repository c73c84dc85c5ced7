using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Bamba (IBM, 2024): layers of Mamba-2, and some of attention, each with a feed-forward.</summary>
internal sealed class BambaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Bamba;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with
        {
            FeedForwardBias = config.Flag("mlp_bias"),
            NormPlacement = new NormPlacement("input_layernorm", null, "pre_ff_layernorm", null),
            Names = new DecoderNames { FinalNorm = "final_layernorm" },
        };

        // transformers rotates half of each head whatever the config says.
        var rope = decoder.Rope with { RotatedShare = 0.5 };
        var mixer = config.Mamba2(decoder);
        var attention = config.Ints("attn_layer_indices") ?? [];
        var beyond = attention.FirstOrDefault(i => i < 0 || i >= decoder.LayerCount, -1);
        config.Require("attn_layer_indices", attention.All(i => i >= 0 && i < decoder.LayerCount), $"there is no layer {beyond}; num_hidden_layers is {decoder.LayerCount}.");
        var feedForward = decoder.FeedForward with { ModuleName = "feed_forward" };
        return decoder with
        {
            Rope = rope,
            Layers =
            [
                .. Enumerable.Range(0, decoder.LayerCount).Select(i => attention.Contains(i)
                    ? new LayerConfig { Rope = rope, FeedForward = feedForward }
                    : new LayerConfig { Rope = null, Mixer = mixer, FeedForward = feedForward }),
            ],
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, [("attention_bias", false), ("attn_layer_indices", new JsonArray([.. Enumerable.Range(0, shape.Layers).Where(static i => i % 4 == 1).Select(static i => (JsonNode)i)])), ("mlp_bias", false), .. MambaReader.New(shape)]);
    }
}
