using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Qwen3 (Yang et al., 2025): Llama with normalized queries and keys.</summary>
public sealed class Qwen3Family : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { KeyValueHeads = 32, HeadDimension = 128, MaxPositions = 32768, AttentionBias = false };

    /// <inheritdoc/>
    public string ModelType => "qwen3";

    /// <inheritdoc/>
    public string Architecture => "Qwen3ForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(ModelType, s_defaults) with { QueryKeyNorm = QueryKeyNorm.PerHead }).WithQwenWindows(config, window: 4096, firstLayer: 28);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("use_sliding_window", false));
}
