using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>OLMo 2 (OLMo Team, 2024): Llama with post-norms, and norms over all heads of queries and keys.</summary>
internal sealed class Olmo2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Olmo2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsOlmo2();
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false));
}

/// <summary>Settings common to the OLMo families since OLMo 2.</summary>
internal static class OlmoSettings
{
    /// <summary>Norms of the outputs of attention and feed-forward, and of all heads of queries and keys.</summary>
    internal static DecoderConfig AsOlmo2(this DecoderConfig decoder) => decoder with
    {
        NormPlacement = NormPlacement.After,
        Norm = new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true),
        QueryKeyNorm = QueryKeyNorm.AllHeads,
    };
}
