using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 3 (IBM, 2024): Llama with factors of embeddings, scores, residuals and logits.</summary>
internal sealed class GraniteFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Granite;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).WithGraniteFactors(config);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("attention_multiplier", 1.0 / (shape.HiddenSize / shape.Heads)), ("embedding_multiplier", 12.0),
            ("logits_scaling", 8.0), ("mlp_bias", false), ("residual_multiplier", 0.22));
    }
}

/// <summary>Settings common to the Granite families.</summary>
internal static class GraniteSettings
{
    /// <summary>Factors of embeddings, scores, residuals and logits.</summary>
    internal static DecoderConfig WithGraniteFactors(this DecoderConfig decoder, ConfigReader config)
    {
        var divisor = config.Number("logits_scaling", 1);
        config.Require("logits_scaling", divisor != 0, "logits are divided by it; it cannot be 0.");
        return decoder with
        {
            FeedForwardBias = config.Flag("mlp_bias"),
            EmbeddingMultiplier = config.Number("embedding_multiplier", 1),
            ScoreMultiplier = config.Number("attention_multiplier", 1),
            ResidualMultiplier = config.Number("residual_multiplier", 1),
            LogitMultiplier = 1 / divisor,
        };
    }
}
