namespace OpenWeights.Tune.Models.Families;

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
