using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>OLMo 3 (Ai2, 2025): OLMo 2 with sliding windows in three of four layers, where the rotary embedding is not scaled.</summary>
internal sealed class Olmo3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Olmo3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).AsOlmo2();
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => (i + 1) % 4 != 0);
        var local = config.Object("rope_parameters")?[LayerTypes.Sliding] is JsonObject
            ? config.Rope(decoder.MaxPositions, decoder.HeadDimension, Facts.RopeTheta, layerType: LayerTypes.Sliding)
            : new RopeConfig { Theta = decoder.Rope.Theta, OriginalMaxPositions = decoder.MaxPositions };
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides).WithLayers((layer, i) => layer with { Rope = slides[i] ? local : decoder.Rope });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("sliding_window", 4096));
}
