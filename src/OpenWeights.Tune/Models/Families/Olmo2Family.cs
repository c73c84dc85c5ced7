using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>OLMo 2 (OLMo Team, 2024): Llama with post-norms, and norms over all heads of queries and keys.</summary>
public sealed class Olmo2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Olmo2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        return decoder with
        {
            NormPlacement = NormPlacement.After,
            Norm = new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true),
            QueryKeyNorm = QueryKeyNorm.AllHeads,
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false));
}
