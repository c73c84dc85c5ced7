using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 3 with experts (IBM, 2024).</summary>
internal sealed class GraniteMoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GraniteMoe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).WithGraniteFactors(config).WithGraniteMixture(config, Facts.Experts!);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => NewConfig(this, shape);

    /// <summary>The config.json of a new model of Granite 3 with experts.</summary>
    internal static JsonObject NewConfig(IModelFamily family, ModelShape shape, params (string Name, JsonNode? Value)[] more)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            family, shape,
            [
                ("attention_bias", false), ("attention_multiplier", 1.0 / (shape.HiddenSize / shape.Heads)), ("embedding_multiplier", 12.0), ("logits_scaling", 6.0),
                ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("residual_multiplier", 0.22), .. more,
            ]);
    }
}
