using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Seed-OSS (ByteDance, 2025): Llama with biases on query, key and value projections.</summary>
internal sealed class SeedOssFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.SeedOss;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireNoDropout(Facts, "residual_dropout");
        return config.Common(Facts) with { AttentionOutputBias = config.Flag("attention_out_bias"), FeedForwardBias = config.Flag("mlp_bias") };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", true), ("attention_out_bias", false), ("mlp_bias", false), ("residual_dropout", 0.0));
}
