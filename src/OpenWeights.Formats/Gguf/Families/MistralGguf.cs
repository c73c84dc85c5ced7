using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Mistral, which llama.cpp runs as llama. It has no word for Mistral 0.1's sliding window.</summary>
public sealed class MistralGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Mistral;

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override bool IsOf70Billion(ConfigJson config) => LlamaGguf.HasEightyGroupedLayers(config, this);

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        RefuseWindow(config, Facts.MaxPositions, config.IsNull("sliding_window") ? null : Facts.SlidingWindow);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
    }

    /// <summary>Refuses a window that is less than the context.</summary>
    internal static void RefuseWindow(ConfigJson config, int usualPositions, int? usualWindow)
    {
        if ((config.Has("sliding_window") || usualWindow is not null) && config.Number("sliding_window", usualWindow) < config.Int("max_position_embeddings", usualPositions))
        {
            throw config.Error("sliding_window", "llama.cpp has no sliding window for Mistral, so the file would mean another model; set it to null if you mean full attention.");
        }
    }
}
