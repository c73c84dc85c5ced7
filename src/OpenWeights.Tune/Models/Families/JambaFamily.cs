using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Jamba (AI21, 2024): layers of Mamba, some of attention without positions, and a mixture of experts in some.</summary>
internal sealed class JambaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Jamba;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.IgnoreMambaTraining();
        config.Ignore("n_ctx", "calc_logits_for_entire_prompt");
        config.Require("mamba_inner_layernorms", config.Flag("mamba_inner_layernorms", true), "only Mamba with norms of time steps, B and C is supported.");
        var decoder = config.Common(Facts) with
        {
            NormPlacement = new NormPlacement("input_layernorm", null, "pre_ff_layernorm", null),
            Names = new DecoderNames { FinalNorm = "final_layernorm" },
        };
        config.RequireSilu(decoder);
        var mixer = Mixer(config, decoder);
        var mixture = new MixtureSettings
        {
            ModuleName = "feed_forward",
            ExpertsPerToken = config.Int("num_experts_per_tok", Facts.Experts!.PerToken),
            Router = new RouterSettings { Name = "router" },
            Experts = config.Experts(decoder, Facts.Experts, "num_experts", decoder.FeedForward.Inner),
        };
        var block = decoder.FeedForward with { ModuleName = "feed_forward" };
        var attends = config.AttentionLayers("layers_block_type", decoder.LayerCount) ?? config.AttentionLayers("layer_types", decoder.LayerCount);
        var (attention, experts) = (Every(config, "attn_layer", 8, 4), Every(config, "expert_layer", 2, 1));
        var hasExperts = mixture.Experts.Count > 1;
        if (hasExperts)
        {
            config.RequireExperts(mixture, "num_experts_per_tok");
        }

        return decoder with
        {
            RouterLossWeight = config.RouterLossWeight(),
            Layers =
            [
                .. Enumerable.Range(0, decoder.LayerCount).Select(i => new LayerConfig
                {
                    Rope = null,
                    Mixer = (attends?[i] ?? attention(i)) ? null : mixer,
                    FeedForward = hasExperts && experts(i) ? mixture : block,
                }),
            ],
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attn_layer_offset", 1), ("attn_layer_period", 4), ("expert_layer_offset", 1), ("expert_layer_period", 2), ("head_dim", null), ("mamba_conv_bias", true),
            ("mamba_d_conv", 4), ("mamba_d_state", 16), ("mamba_dt_rank", "auto"), ("mamba_expand", 2), ("mamba_proj_bias", false), ("num_experts", shape.Experts),
            ("num_experts_per_tok", shape.ExpertsPerToken), ("rms_norm_eps", 1e-6), ("rope_theta", null));
    }

    private static MambaSettings Mixer(ConfigReader config, DecoderConfig decoder) => new()
    {
        HiddenSize = decoder.HiddenSize,
        Inner = new Dimension("mamba_expand x hidden_size", (int)(config.Number("mamba_expand", 2) * decoder.HiddenSize)),
        StateSize = new Dimension("mamba_d_state", config.Int("mamba_d_state", 16)),
        StepRank = new Dimension("mamba_dt_rank", config.IsText("mamba_dt_rank", "auto") ? (decoder.HiddenSize + 15) / 16 : config.Int("mamba_dt_rank", (decoder.HiddenSize + 15) / 16)),
        Kernel = new Dimension("mamba_d_conv", config.Int("mamba_d_conv", 4)),
        ConvolutionBias = config.Flag("mamba_conv_bias", true),
        ProjectionBias = config.Flag("mamba_proj_bias"),
        Norm = decoder.Norm,
    };

    // Whether a layer is one of those that come once a period.
    private static Func<int, bool> Every(ConfigReader config, string setting, int period, int offset)
    {
        var every = config.Int($"{setting}_period", period);
        var first = config.Number($"{setting}_offset", offset);
        config.Require($"{setting}_offset", first >= 0 && first < every, FormattableString.Invariant($"{first} must be below {setting}_period, which is {every}."));
        return layer => layer % every == (int)first;
    }
}
