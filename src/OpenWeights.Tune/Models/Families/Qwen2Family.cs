using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen2 and 2.5 (Yang et al., 2024): Llama with biases on query, key and value.</summary>
public sealed class Qwen2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { QueryKeyValueBias = true }).WithQwenWindows(config, Facts.SlidingWindow, firstLayer: 28);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("use_sliding_window", false));
}
