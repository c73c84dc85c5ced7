using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Text models of Gemma 3 (Gemma Team, 2025): Gemma 2 with normalized queries and keys instead of soft caps, five layers with a
/// sliding window for each without, and separate rotary frequencies for the layers with a window.
/// </summary>
internal sealed class Gemma3TextFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Gemma3Text;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).AsGemma(config).WithGemmaScores(config, Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead, MaxPositionsAreScaled = true };
        var pattern = config.Int("sliding_window_pattern", (int)config.Number("_sliding_window_pattern", 6));
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => (i + 1) % pattern != 0);
        var local = config.Object("rope_parameters")?[LayerTypes.Sliding] is JsonObject
            ? config.Rope(decoder.MaxPositions, decoder.HeadDimension, layerType: LayerTypes.Sliding)
            : new RopeConfig { Theta = config.Number("rope_local_base_freq", 10000), OriginalMaxPositions = decoder.MaxPositions };
        var windowed = decoder.WithWindows(config.Int("sliding_window", Facts.SlidingWindow), slides);
        return windowed with { Layers = [.. windowed.Layers.Select((layer, i) => layer with { Rope = slides[i] ? local : decoder.Rope })] };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return GemmaSettings.NewConfig(
            this, shape, ("query_pre_attn_scalar", shape.HiddenSize / shape.Heads), ("rope_local_base_freq", 10000.0), ("rope_theta", 1e6), ("sliding_window", 512), ("sliding_window_pattern", 6));
    }
}
