using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>GPT-NeoX (Black et al., 2022) and Pythia (Biderman et al., 2023): layer norms, a quarter of each head rotated, query, key and value of a head next to each other, and attention and feed-forward in parallel.</summary>
internal sealed class GptNeoXFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GptNeoX;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        // Names of older configs.
        var facts = Facts with { RopeTheta = config.Number("rotary_emb_base", Facts.RopeTheta), RotatedShare = config.Number("rotary_pct", Facts.RotatedShare) };
        config.RequireNoDropout(Facts, "hidden_dropout");
        var decoder = config.Common(facts) with { FeedForwardBias = true };
        config.Require("num_key_value_heads", decoder.KeyValueHeadCount == decoder.HeadCount, "this family has as many key/value heads as query heads.");
        decoder = decoder with
        {
            Names = new DecoderNames { Stack = "gpt_neox", Embedding = "embed_in", FinalNorm = "final_layer_norm" },
            Norm = new LayerNormSettings(decoder.NormEpsilon),
            ParallelParts = config.Flag("use_parallel_residual", true),
        };
        return decoder.WithPlainFeedForward("dense_h_to_4h", "dense_4h_to_h").WithAttention(static attention => attention with
        {
            ModuleName = "attention",
            Names = new AttentionNames { Fused = "query_key_value", Output = "dense" },
            Projections = QueryKeyValueLayout.FusedByHead,
        });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(this, shape, ("attention_bias", true), ("partial_rotary_factor", 0.25), ("use_parallel_residual", true));
        _ = json.Remove("head_dim");
        _ = json.Remove("num_key_value_heads");
        return json;
    }
}
