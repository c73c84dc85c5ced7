using OpenWeights.Formats.Families;
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
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family's experts.</param>
    /// <param name="normalizes">Whether the weights of the chosen experts are divided by their sum; null for norm_topk_prob.</param>
    internal static DecoderConfig WithQwenExperts(this DecoderConfig decoder, ConfigReader config, ExpertFacts facts, bool? normalizes = null)
    {
        var plain = config.Ints("mlp_only_layers") ?? [];
        var step = config.Int("decoder_sparse_step", 1);
        var setting = config.Has("num_experts") ? "num_experts" : "num_local_experts";
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Router = new RouterSettings { Normalizes = normalizes ?? config.Flag("norm_topk_prob", facts.Normalizes) },
            Experts = config.Experts(decoder, facts, setting, config.Dimension("moe_intermediate_size", facts.Inner)),
            Shared = facts.Shared is null ? null : decoder.FeedForward with
            {
                ModuleName = "shared_expert",
                Inner = config.Dimension("shared_expert_intermediate_size", facts.Shared),
            },
            SharedGate = facts.Shared is null ? null : "shared_expert_gate",
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder.WithMixture(mixture, i => !plain.Contains(i) && (i + 1) % step == 0) with { RouterLossWeight = config.RouterLossWeight() };
    }
}
