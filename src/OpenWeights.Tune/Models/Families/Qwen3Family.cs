using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3 (Yang et al., 2025): Llama with normalized queries and keys.</summary>
internal sealed class Qwen3Family : IModelFamily
{
    /// <summary>Creates the family.</summary>
    public Qwen3Family()
        : this(FamilyTable.Qwen3)
    {
    }

    /// <summary>Creates another family with the same model.</summary>
    /// <param name="facts">Its facts.</param>
    internal Qwen3Family(FamilyFacts facts) => Facts = facts;

    /// <inheritdoc/>
    public FamilyFacts Facts { get; }

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.PerHead }).WithQwenWindows(config, Facts.SlidingWindow, firstLayer: 28);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("use_sliding_window", false));
}
