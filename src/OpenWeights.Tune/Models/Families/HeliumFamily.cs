using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Helium 1 (Kyutai, 2025): Llama with interleaved rotary embedding.</summary>
internal sealed class HeliumFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Helium;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        return decoder with
        {
            Norm = new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true),
            Rope = decoder.Rope with { Interleaved = true },
            AttentionOutputBias = false,
            FeedForwardBias = config.Flag("mlp_bias"),
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false));
}
