using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 3 with experts of which one reads every token (IBM, 2025).</summary>
public sealed class GraniteMoeSharedFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GraniteMoeShared;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).WithGraniteFactors(config);
        return decoder.WithGraniteMixture(config, Facts.Experts!);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("attention_multiplier", 1.0 / (shape.HiddenSize / shape.Heads)), ("embedding_multiplier", 12.0), ("logits_scaling", 6.0),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("residual_multiplier", 0.22), ("shared_intermediate_size", shape.IntermediateSize));
    }
}
