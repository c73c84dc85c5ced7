namespace OpenWeights.Tune.Models.Families;

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
