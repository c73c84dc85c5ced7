using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the Cohere families.</summary>
internal static class CohereSettings
{
    private const double UsualScale = 0.0625;

    /// <summary>Parallel parts after one layer norm without bias, interleaved rotary embedding, scaled logits, and optionally a norm for each query and key head.</summary>
    internal static DecoderConfig AsCohere(this DecoderConfig decoder, ConfigReader config, bool normalizesQueries) => decoder with
    {
        Norm = new LayerNormSettings(decoder.NormEpsilon, HasBias: false, ScalesBeforeRounding: true),
        NormPlacement = NormPlacement.Shared,
        ParallelParts = true,
        Rope = decoder.Rope with { Interleaved = true },
        QueryKeyNorm = normalizesQueries ? QueryKeyNorm.EachHead : QueryKeyNorm.None,
        LogitMultiplier = config.Number("logit_scale", UsualScale),
    };
}
