using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Command R (Cohere, 2024): attention and feed-forward in parallel, layer norms without bias, and interleaved rotary embedding.</summary>
internal sealed class CohereFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Cohere;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsCohere(config, normalizesQueries: config.Flag("use_qk_norm"));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("logit_scale", 0.0625), ("use_qk_norm", false));
}

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
