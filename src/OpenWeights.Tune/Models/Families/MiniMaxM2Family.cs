using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>MiniMax-M2 (2025): norms over all heads, a part of each head rotated, and a sigmoid router.</summary>
internal sealed class MiniMaxM2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.MiniMaxM2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireText("scoring_func", "sigmoid");
        config.Require("router_jitter_noise", config.Number("router_jitter_noise", 0) == 0, "router jitter noise is not supported; set it to 0.0.");
        config.Require("use_routing_bias", config.Flag("use_routing_bias", true), "a router without a correction of its choice is not supported.");
        config.Require("shared_intermediate_size", config.Number("shared_intermediate_size", 0) == 0, "shared experts are not supported for this family.");
        config.Require("attn_type_list", config.Ints("attn_type_list")?.All(static t => t == 1) != false, "only full attention, 1, is supported.");
        config.RequireText("qk_norm_type", "per_layer");
        config.Require("use_qk_norm", config.Flag("use_qk_norm", true), "a model without norms of queries and keys is not supported.");
        foreach (var ignored in new[] { "use_mtp", "num_mtp_modules", "mtp_transformer_layers", "layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta" })
        {
            _ = config.Has(ignored);
        }

        var decoder = config.Common(Facts) with { QueryKeyNorm = QueryKeyNorm.AllHeads };
        if (config.OptionalInt("rotary_dim") is { } rotated)
        {
            config.Require("rotary_dim", rotated % 2 == 0 && rotated <= decoder.HeadDimension, $"an even number up to head_dim, {decoder.HeadDimension}, is expected.");
            decoder = decoder with { Rope = decoder.Rope with { RotatedShare = (double)rotated / decoder.HeadDimension } };
        }

        var router = new RouterSettings { Scoring = RouterScoring.Sigmoid, Correction = "e_score_correction_bias", Normalizes = true };
        return decoder.WithUsualMixture(config, Facts.Experts!, "num_local_experts", router);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("num_experts_per_tok", shape.ExpertsPerToken), ("num_local_experts", shape.Experts), ("partial_rotary_factor", 0.5));
    }
}
