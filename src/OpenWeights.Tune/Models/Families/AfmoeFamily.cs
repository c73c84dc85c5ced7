using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Arcee's Trinity models (2025): gated attention, without positions in layers without a window, and norms of inputs and outputs.</summary>
internal sealed class AfmoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Afmoe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.RequireText("score_func", "sigmoid");
        config.Require("route_norm", config.Flag("route_norm", true), "weights that are not normalized are not supported for this family.");
        foreach (var setting in new[] { "n_group", "topk_group", "num_expert_groups", "num_limited_groups" })
        {
            config.Require(setting, (config.OptionalInt(setting) ?? 1) == 1, "groups of experts are not supported for this family.");
        }

        _ = config.Has("load_balance_coeff");
        _ = config.Has("use_grouped_mm");
        var decoder = config.Common(Facts);
        var every = config.Int("global_attn_every_n_layers", 4);
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => (i + 1) % every != 0);
        var dense = (int)config.Number("num_dense_layers", 1);
        var inner = config.Int("moe_intermediate_size", Facts.Experts!.Inner);
        decoder = decoder with
        {
            Norm = new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true),
            NormPlacement = new NormPlacement("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"),
            QueryKeyNorm = QueryKeyNorm.PerHead,
            EmbeddingMultiplier = config.Flag("mup_enabled") ? Math.Sqrt(decoder.HiddenSize) : 1,
        };
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts.PerToken),
            Router = new RouterSettings
            {
                Name = "router.gate",
                Scoring = RouterScoring.Sigmoid,
                Correction = "expert_bias",
                Normalizes = true,
                SumEpsilon = 1e-20,
                Scale = config.Number("route_scale", 1),
            },
            Experts = config.Experts(decoder, Facts.Experts, "num_experts", new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, "num_shared_experts", Facts.Experts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), slides)
            .WithRotation(i => slides[i])
            .WithAttention(static attention => attention with { OutputGate = OutputGate.PerElement })
            .WithMixture(mixture, i => i >= dense);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("global_attn_every_n_layers", 4), ("moe_intermediate_size", shape.IntermediateSize), ("num_dense_layers", 1), ("num_experts", shape.Experts),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("num_shared_experts", 1), ("sliding_window", 1024));
    }
}
