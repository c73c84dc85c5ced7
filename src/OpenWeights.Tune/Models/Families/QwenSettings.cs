using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the Qwen families.</summary>
internal static class QwenSettings
{
    /// <summary>
    /// Sliding windows of the layers from max_window_layers on, if use_sliding_window is set; the other settings are also present in
    /// configs of models without windows.
    /// </summary>
    internal static DecoderConfig WithQwenWindows(this DecoderConfig decoder, ConfigReader config, int? window, int firstLayer)
    {
        var size = config.WindowWhereUsed(window);
        var first = (int)config.Number("max_window_layers", firstLayer);
        var slides = LayerTypes.Read(config, decoder.LayerCount, i => i >= first);
        return decoder.WithWindows(size, slides);
    }

    /// <summary>Mixtures of experts in every decoder_sparse_step-th layer, except those in mlp_only_layers.</summary>
    internal static DecoderConfig WithQwenExperts(this DecoderConfig decoder, ConfigReader config, ExpertFacts facts)
    {
        var plain = config.Ints("mlp_only_layers") ?? [];
        var step = config.Int("decoder_sparse_step", 1);
        var mixture = new MixtureSettings
        {
            ExpertCount = config.Int("num_experts", config.OptionalInt("num_local_experts", facts.Count)),
            ExpertCountSetting = "num_experts",
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Expert = decoder.FeedForward with { Inner = new Dimension("moe_intermediate_size", config.Int("moe_intermediate_size", facts.Inner)) },
            NormalizesWeights = config.Flag("norm_topk_prob"),
            Shared = facts.Shared is null ? null : decoder.FeedForward with { Inner = new Dimension("shared_expert_intermediate_size", config.Int("shared_expert_intermediate_size", facts.Shared)) },
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder with
        {
            Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => decoder.Layer(i) with { FeedForward = !plain.Contains(i) && (i + 1) % step == 0 ? mixture : null })],
            RouterLossWeight = config.RouterLossWeight(),
        };
    }

    /// <summary>Coefficient of the load balancing loss: router_aux_loss_coef if output_router_logits is set.</summary>
    internal static double RouterLossWeight(this ConfigReader config)
    {
        var weight = config.Number("router_aux_loss_coef", 0.001);
        return config.Flag("output_router_logits") ? weight : 0;
    }

    /// <summary>Throws if there are more experts per token than experts.</summary>
    internal static void RequireExperts(this ConfigReader config, MixtureSettings mixture, string setting) =>
        config.Require(setting, mixture.ExpertsPerToken <= mixture.ExpertCount, $"{mixture.ExpertsPerToken} is more than {mixture.ExpertCountSetting}, which is {mixture.ExpertCount}.");
}
