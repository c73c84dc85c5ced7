using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>InternLM 3 (Shanghai AI Laboratory, 2025): Llama with other names of the settings of biases.</summary>
internal sealed class InternLm3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.InternLm3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (decoder, bias) = (config.Common(Facts), config.Flag("bias"));
        return decoder with
        {
            QueryKeyValueBias = config.Flag("qkv_bias", decoder.QueryKeyValueBias),
            AttentionOutputBias = bias || decoder.AttentionOutputBias,
            FeedForwardBias = config.Flag("mlp_bias", bias),
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("bias", false), ("qkv_bias", false));
}
