using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen 2 and 2.5.</summary>
internal sealed class Qwen2Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Qwen2;

    /// <inheritdoc/>
    public override string Architecture => "qwen2";

    /// <inheritdoc/>
    public override bool IsOf70Billion(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_hidden_layers") == 80;
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        RefuseWindows(config);
        RequireUsualHeads(config);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);

        // Its biases are always present, not a setting.
        _ = config.Remove("attention_bias");
        return config;
    }
}
