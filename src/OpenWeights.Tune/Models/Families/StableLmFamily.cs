using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Families;

/// <summary>StableLM 3B (Stability AI, 2023) and StableLM 2: layer norms, a quarter of each head rotated, and in StableLM 2 12B parallel parts and a norm for each head.</summary>
internal sealed class StableLmFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.StableLm;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireNoDropout(Facts, "hidden_dropout");
        var (decoder, parallel) = (config.Common(Facts), config.Flag("use_parallel_residual"));
        var norm = new LayerNormSettings(decoder.NormEpsilon);
        decoder = decoder with
        {
            Norm = norm,
            NormPlacement = parallel ? NormPlacement.Shared : NormPlacement.Before,
            ParallelParts = parallel,
            QueryKeyNorm = config.Flag("qk_layernorm") ? QueryKeyNorm.EachHead : QueryKeyNorm.None,
            QueryKeyValueBias = config.Flag("use_qkv_bias"),
        };
        return decoder.WithAttention(attention => attention with
        {
            Names = new AttentionNames { QueryNorm = "q_layernorm", KeyNorm = "k_layernorm" },
            Norm = norm with { HasBias = false, SplitsHeads = true },
        });
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(this, shape, ("partial_rotary_factor", 0.25), ("qk_layernorm", false), ("use_parallel_residual", false), ("use_qkv_bias", false));
        _ = json.Remove("head_dim");
        return json;
    }
}
