using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>FlexOlmo (Ai2, 2025): OLMo 2 with a mixture of experts in every layer.</summary>
internal sealed class FlexOlmoFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.FlexOlmo;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).AsOlmo2();
        return decoder.WithUsualMixture(config, Facts.Experts!, "num_experts", new RouterSettings { Normalizes = config.Flag("norm_topk_prob") }, routerLoss: 0.01);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("norm_topk_prob", false), ("num_experts", shape.Experts), ("num_experts_per_tok", shape.ExpertsPerToken));
    }
}
