using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Hunyuan-A13B (Tencent, 2025): Hunyuan's attention with experts of which one reads every token.</summary>
internal sealed class HunYuanMoeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.HunyuanMoe;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.ReadHunYuanDescription();
        var decoder = config.Common(Facts).WithHunYuanRope(config) with { QueryKeyNorm = QueryKeyNorm.PerHead };
        config.Require("moe_intermediate_size", config.IntOfLayers("moe_intermediate_size", decoder.IntermediateSize) == decoder.IntermediateSize, "experts as wide as intermediate_size are supported, as in transformers.");
        config.Require("num_shared_expert", config.IntOfLayers("num_shared_expert", 1) == 1, "one shared expert is supported, as in transformers.");
        _ = config.Has("use_mixed_mlp_moe");
        _ = config.Has("moe_layer_num_skipped");
        _ = config.Has("moe_drop_tokens");
        _ = config.Has("moe_random_routing_dropped_token");
        var experts = decoder.FeedForward.Inner;
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.IntOfLayers("moe_topk", Facts.Experts!.PerToken),
            Router = new RouterSettings { Name = "gate.wg", IsLinear = true, InFloat32 = true, Normalizes = true },
            Experts = new ExpertSettings
            {
                Count = config.IntOfLayers("num_experts", Facts.Experts.Count),
                CountSetting = "num_experts",
                HiddenSize = decoder.HiddenSize,
                Inner = experts,
                Activation = decoder.Activation,
            },
            Shared = decoder.FeedForward with { ModuleName = "shared_mlp" },
        };
        config.RequireExperts(mixture, "moe_topk");
        return decoder.WithAttention(HunYuanSettings.Attention).WithMixture(mixture, static _ => true);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("moe_topk", shape.ExpertsPerToken), ("num_experts", shape.Experts));
    }
}
