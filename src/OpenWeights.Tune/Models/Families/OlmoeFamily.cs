using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>OLMoE (Ai2, 2024): norms over all heads of queries and keys, and a mixture of many small experts in every layer.</summary>
internal sealed class OlmoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Olmoe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (decoder, limit) = (config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.AllHeads }, config.OptionalNumber("clip_qkv"));
        return decoder.WithAttention(attention => attention with { ProjectionLimit = limit })
            .WithUsualMixture(config, Facts.Experts!, "num_experts", new RouterSettings { Normalizes = config.Flag("norm_topk_prob") }, routerLoss: 0.01);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("norm_topk_prob", false), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken));
    }
}
