using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Command R7B and Command A (Cohere, 2024): Command R with sliding windows in three of four layers, and no rotary embedding in the others.</summary>
internal sealed class Cohere2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Cohere2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireText("order_of_interleaved_layers", "local_attn_first");
        config.RequireText("position_embedding_type", "rope_gptj");
        config.Require("rotary_pct", config.Number("rotary_pct", 1) == 1, "this family rotates whole heads; it must be 1.0.");
        foreach (var setting in new[] { "use_gated_activation", "use_parallel_block", "use_parallel_embedding", "use_embedding_sharing" })
        {
            config.Require(setting, config.Flag(setting, true), "this family has no model without it; it must be true.");
        }

        // An older form of the pattern, which transformers ignores.
        _ = config.Has("layer_switch");
        var decoder = config.Common(Facts).AsCohere(config, normalizesQueries: false);
        var pattern = config.Int("sliding_window_pattern", (int)config.Number("_sliding_window_pattern", 4));
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => (i + 1) % pattern != 0);
        var window = config.OptionalInt("sliding_window", Facts.SlidingWindow);
        return decoder.WithWindows(window, slides).WithRotation(i => window is not null && slides[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("logit_scale", 0.0625), ("sliding_window", 4096), ("sliding_window_pattern", 4));
}
