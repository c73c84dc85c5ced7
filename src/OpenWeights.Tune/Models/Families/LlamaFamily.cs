using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Llama 1 to 3.3 (Touvron et al., 2023): pre-norm, rotary embedding, grouped-query attention, SwiGLU. Also SmolLM 1 and 2.
/// </summary>
internal sealed class LlamaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Llama;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts) with { FeedForwardBias = config.Flag("mlp_bias") };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) =>
        CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false), ("pretraining_tp", 1));
}
