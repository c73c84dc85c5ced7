using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Gemma 2 (Gemma Team, 2024): Gemma with pre- and post-norms, soft caps of scores and logits, and a sliding window in every other layer.
/// </summary>
internal sealed class Gemma2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Gemma2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).AsGemma(config).WithGemmaScores(config, Facts);
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), LayerTypes.Read(config, decoder.LayerCount, static i => i % 2 == 0));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return GemmaSettings.NewConfig(
            this, shape, ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0), ("query_pre_attn_scalar", shape.HiddenSize / shape.Heads), ("sliding_window", 4096));
    }
}
