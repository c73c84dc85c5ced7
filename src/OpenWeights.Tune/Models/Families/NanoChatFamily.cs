using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>nanochat (Karpathy, 2025): norms without weights, also of the embeddings and, after the rotary embedding, of queries and keys; relu2, and a soft cap of the logits.</summary>
internal sealed class NanoChatFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.NanoChat;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts);
        decoder = decoder with
        {
            Norm = new RmsNormSettings(decoder.NormEpsilon, HasWeight: false),
            NormalizesEmbedding = true,
            QueryKeyNorm = QueryKeyNorm.PerHead,
            Rope = decoder.Rope with { IsReversed = true },
            LogitSoftCap = config.OptionalNumber("final_logit_softcapping", Facts.LogitSoftCap),
        };
        return decoder.WithPlainFeedForward("fc1", "fc2").WithAttention(static attention => attention with { NormalizesRotated = true });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("final_logit_softcapping", 15.0));
}
