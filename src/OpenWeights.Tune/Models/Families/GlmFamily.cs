using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>GLM-4 9B (Zhipu AI, 2024): half of each head rotated, in interleaved pairs, and gate and up projections in one.</summary>
internal sealed class GlmFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Glm;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsGlm();
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", true), ("partial_rotary_factor", 0.5));
}

/// <summary>Settings common to the GLM families without experts.</summary>
internal static class GlmSettings
{
    /// <summary>Interleaved rotary embedding, no bias on the output projection, and gate and up projections in one.</summary>
    internal static DecoderConfig AsGlm(this DecoderConfig decoder)
    {
        var fused = decoder.FeedForward with { FusedProjections = true };
        return (decoder with { Rope = decoder.Rope with { Interleaved = true }, AttentionOutputBias = false }).WithLayers((layer, _) => layer with { FeedForward = fused });
    }
}
