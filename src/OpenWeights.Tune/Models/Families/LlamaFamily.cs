using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Llama 1 to 3.3 (Touvron et al., 2023): pre-norm, rotary embedding, grouped-query attention, SwiGLU. Also SmolLM 1 and 2.
/// </summary>
public sealed class LlamaFamily : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { AttentionBias = false };

    /// <inheritdoc/>
    public string ModelType => "llama";

    /// <inheritdoc/>
    public string Architecture => "LlamaForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(ModelType, s_defaults) with { FeedForwardBias = config.Flag("mlp_bias") };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) =>
        CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false), ("pretraining_tp", 1));
}
