using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>ERNIE 4.5 (Baidu, 2025) without experts: Llama with interleaved rotary embedding.</summary>
internal sealed class Ernie45Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Ernie45;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (decoder, bias) = (config.Common(Facts), config.Flag("use_bias"));
        return decoder with
        {
            Rope = decoder.Rope with { Interleaved = true },
            QueryKeyValueBias = bias,
            AttentionOutputBias = bias,
            FeedForwardBias = bias,
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("use_bias", false));
}
