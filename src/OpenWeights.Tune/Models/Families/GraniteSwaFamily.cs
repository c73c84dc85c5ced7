using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite with sliding windows (IBM, 2026): Granite 3 with attention sinks, and a rotary base for each layer.</summary>
internal sealed class GraniteSwaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GraniteSwa;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).WithGraniteFactors(config);
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => i % 4 != 0);
        decoder = decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides);
        if (config.Numbers("layer_rope_theta") is { } bases)
        {
            config.Require("layer_rope_theta", bases.Count >= decoder.LayerCount, $"it lists {bases.Count} layers; num_hidden_layers is {decoder.LayerCount}.");

            // Layers with the same base share the object. A base of 0 stands for no rotary embedding.
            var ropes = bases.Distinct().Where(static b => b != 0).ToDictionary(static b => b, b => decoder.Rope with { Theta = b });
            decoder = decoder.WithLayers((layer, i) => layer with { Rope = ropes.GetValueOrDefault(bases[i]) });
        }

        return decoder.WithAttention(static attention => attention with { HasSinks = true });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("attention_multiplier", 1.0 / (shape.HiddenSize / shape.Heads)), ("embedding_multiplier", 12.0), ("logits_scaling", 8.0), ("mlp_bias", false), ("residual_multiplier", 0.22), ("sliding_window", 128));
    }
}
