using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>MiniCPM 3 (OpenBMB, 2024): latent attention, with factors of embeddings, residuals and logits (Hu et al., 2024).</summary>
internal sealed class MiniCpm3Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.MiniCpm3;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonWithLatentAttention(Facts, interleaved: false);
        var layers = Math.Sqrt(decoder.LayerCount);
        var width = config.OptionalInt("dim_model_base", 256) ?? decoder.HiddenSize;
        return decoder with
        {
            FeedForwardBias = config.Flag("mlp_bias"),
            EmbeddingMultiplier = config.Number("scale_emb", 12),
            RoundsEmbeddingMultiplier = true,
            ResidualMultiplier = (config.OptionalNumber("scale_depth", 1.4) ?? layers) / layers,
            LogitMultiplier = (double)width / decoder.HiddenSize,
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, [.. LatentSettings.NewLatentConfig(shape), ("dim_model_base", shape.HiddenSize), ("mlp_bias", false), ("scale_depth", 1.4), ("scale_emb", 12.0)]);
    }
}
