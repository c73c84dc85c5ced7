using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Ministral 3: queries whose factor grows with their position.</summary>
internal sealed class Ministral3Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Ministral3;

    /// <inheritdoc/>
    public override string Architecture => "mistral3";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
        MistralGguf.RefuseWindow(config, Facts.MaxPositions, null);
        if ((config.Object("rope_parameters") ?? config.Object("rope_scaling"))?.Number("llama_4_scaling_beta", 0) is { } beta and not 0)
        {
            metadata.Add("mistral3.attention.temperature_scale", (float)beta);
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        config["sliding_window"] = null;
        if (file.Metadata.Number("mistral3.attention.temperature_scale") is { } beta && config["rope_scaling"] is JsonObject scaling)
        {
            scaling["llama_4_scaling_beta"] = Round(beta);
        }
        return config;
    }
}
