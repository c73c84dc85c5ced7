using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3 (Yang et al., 2025): Llama with normalized queries and keys.</summary>
public sealed class Qwen3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead }).WithQwenWindows(config, Facts.SlidingWindow, firstLayer: 28);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("use_sliding_window", false));
}
