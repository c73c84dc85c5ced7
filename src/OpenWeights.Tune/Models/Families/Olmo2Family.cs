using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>OLMo 2 (OLMo Team, 2024): Llama with post-norms, and norms over all heads of queries and keys.</summary>
public sealed class Olmo2Family : IModelFamily
{
    private static readonly FamilyDefaults s_defaults = new() { NormEpsilon = 1e-5, AttentionBias = false };

    /// <inheritdoc/>
    public string ModelType => "olmo2";

    /// <inheritdoc/>
    public string Architecture => "Olmo2ForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(ModelType, s_defaults) with
        {
            NormPlacement = NormPlacement.After,
            NormScalesBeforeRounding = true,
            QueryKeyNorm = QueryKeyNorm.AllHeads,
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false));
}
