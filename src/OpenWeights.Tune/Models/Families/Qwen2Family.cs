using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen2 and 2.5 (Yang et al., 2024): Llama with biases on query, key and value.</summary>
public sealed class Qwen2Family : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 32, MaxPositions = 32768 };

    /// <inheritdoc/>
    public string ModelType => "qwen2";

    /// <inheritdoc/>
    public string Architecture => "Qwen2ForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(ModelType, s_defaults) with { QueryKeyValueBias = true }).WithQwenWindows(config, window: 4096, firstLayer: 28);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("use_sliding_window", false));
}
