using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Hunyuan's dense models (Tencent, 2025): Llama with norms of queries and keys after the rotary embedding.</summary>
internal sealed class HunYuanDenseFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.HunYuanDense;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.ReadHunYuanDescription();
        var decoder = config.Common(Facts).WithHunYuanRope(config);
        return (decoder with { QueryKeyNorm = QueryKeyNorm.PerHead }).WithAttention(HunYuanSettings.Attention);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false));
}
