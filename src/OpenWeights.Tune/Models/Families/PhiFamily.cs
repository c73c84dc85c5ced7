using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Phi-1, Phi-1.5 and Phi-2 (Microsoft, 2023): attention and feed-forward in parallel, layer norms, a part of each head rotated, and biases on all projections.</summary>
internal sealed class PhiFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Phi;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireNoDropout(Facts, "resid_pdrop", "embd_pdrop");
        var decoder = config.Common(Facts);
        decoder = decoder with
        {
            Names = new DecoderNames { FinalNorm = "final_layernorm" },
            Norm = new LayerNormSettings(decoder.NormEpsilon),
            NormPlacement = NormPlacement.Shared,
            ParallelParts = true,
            QueryKeyNorm = config.Flag("qk_layernorm") ? QueryKeyNorm.PerHead : QueryKeyNorm.None,
            QueryKeyValueBias = true,
            AttentionOutputBias = true,
            FeedForwardBias = true,
            HeadBias = true,
        };
        return decoder.WithPlainFeedForward("fc1", "fc2").WithAttention(static attention => attention with
        {
            Names = new AttentionNames { Output = "dense", QueryNorm = "q_layernorm", KeyNorm = "k_layernorm" },
        });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(this, shape, ("embd_pdrop", 0.0), ("partial_rotary_factor", 0.5), ("qk_layernorm", false), ("resid_pdrop", 0.0), ("tie_word_embeddings", false));
        _ = json.Remove("head_dim");
        return json;
    }
}
