using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Command R7B and Command A: Command R with sliding windows in three of four layers, and no rotary embedding in the others.</summary>
internal sealed class Cohere2Gguf : CohereGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Cohere2;

    /// <inheritdoc/>
    public override string Architecture => "cohere2";

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RequireLayerTypes(config, static layer => (layer + 1) % 4 != 0);
        if ((config.Texts("layer_types") is null && config.Int("sliding_window_pattern", 4) != 4) || config.IsNull("sliding_window"))
        {
            throw config.Error("sliding_window_pattern", "llama.cpp supports only every fourth layer being global.");
        }

        metadata.Add("cohere2.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["sliding_window"] = file.Metadata.Int("cohere2.attention.sliding_window") ?? Facts.SlidingWindow;
        config["sliding_window_pattern"] = 4;
        return config;
    }
}
