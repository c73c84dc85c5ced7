using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen2 and 2.5 (Yang et al., 2024): Llama with biases on query, key and value.</summary>
internal sealed class Qwen2Family : IModelFamily
{
    private readonly int _firstWindow;

    /// <summary>Creates the family.</summary>
    public Qwen2Family()
        : this(FamilyTable.Qwen2, 28)
    {
    }

    /// <summary>Creates another family with the same model.</summary>
    /// <param name="facts">Its facts.</param>
    /// <param name="firstWindow">Its default of max_window_layers.</param>
    internal Qwen2Family(FamilyFacts facts, int firstWindow) => (Facts, _firstWindow) = (facts, firstWindow);

    /// <inheritdoc/>
    public FamilyFacts Facts { get; }

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { QueryKeyValueBias = true }).WithQwenWindows(config, Facts.SlidingWindow, firstLayer: _firstWindow);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("use_sliding_window", false));
}
