using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>StarCoder 2 (BigCode, 2024): layer norms, sliding windows, biases, and a feed-forward without a gate.</summary>
internal sealed class StarCoder2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.StarCoder2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireNoDropout(Facts, "residual_dropout", "embedding_dropout");
        config.RequireText("mlp_type", "default");
        config.RequireText("norm_type", "layer_norm");

        // Settings of its first code, which transformers ignores.
        foreach (var name in new[] { "activation_function", "attention_softmax_in_fp32", "layer_norm_epsilon", "scale_attention_softmax_in_fp32", "scale_attn_weights" })
        {
            _ = config.Has(name);
        }

        var (decoder, bias) = (config.Common(Facts), config.Flag("use_bias", true));
        decoder = decoder with { Norm = new LayerNormSettings(decoder.NormEpsilon), QueryKeyValueBias = bias, AttentionOutputBias = bias, FeedForwardBias = bias };
        return decoder.WithPlainFeedForward("c_fc", "c_proj").WithWindows(config.OptionalInt("sliding_window"), LayerTypes.Read(config, decoder.LayerCount, static _ => true));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("sliding_window", null), ("use_bias", true));
}
