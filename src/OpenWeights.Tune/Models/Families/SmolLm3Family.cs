using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>SmolLM3 (Hugging Face, 2025): Llama without rotary embedding in every fourth layer (NoPE; Yang et al., 2025).</summary>
internal sealed class SmolLm3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.SmolLm3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with { FeedForwardBias = config.Flag("mlp_bias") };

        // Its published config has Qwen's setting, which its class ignores.
        _ = config.Has("max_window_layers");
        var interval = config.Int("no_rope_layer_interval", 4);
        var listed = config.Ints("no_rope_layers");
        config.Require("no_rope_layers", listed is null || listed.Count >= decoder.LayerCount, $"it lists {listed?.Count} layers; num_hidden_layers is {decoder.LayerCount}.");
        bool Rotates(int layer) => listed is null ? (layer + 1) % interval != 0 : listed[layer] != 0;
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => !Rotates(i));
        var windowed = decoder.WithWindows(config.WindowWhereUsed(null), slides);
        return windowed with
        {
            Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => windowed.Layer(i) with { Rope = Rotates(i) ? decoder.Rope : null })],
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) =>
        CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false), ("no_rope_layer_interval", 4), ("use_sliding_window", false));
}
