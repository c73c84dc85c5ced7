using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Kimi Linear (Moonshot AI, 2025): three layers of linear attention with a decay per channel for each layer of latent attention without positions,
/// and the mixtures of experts of DeepSeek-V3.
/// </summary>
internal sealed class KimiLinearFamily : IModelFamily
{
    private const int UsualHeads = 32;
    private const int UsualWidth = 128;
    private static readonly SigmoidMixtureNames s_mixture = new("num_experts_per_token", "num_experts", "num_shared_experts", "num_expert_group", "moe_renormalize");

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.KimiLinear;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonWithLatentAttention(Facts, interleaved: true) with { MaxPositions = config.Int("model_max_length", Facts.MaxPositions) };
        RequireKnown(config, decoder);
        var own = config.Object("linear_attn_config");
        Dimension Size(string setting, string inner, int usual) =>
            own?[inner] is { } given ? new Dimension($"linear_attn_config: {inner}", (long)config.Number(given, $"linear_attn_config: {inner}", null)) : config.Dimension(setting, usual);
        var (heads, width) = (Size("linear_num_heads", "num_heads", UsualHeads), Size("linear_head_dim", "head_dim", UsualWidth));
        var linear = new GatedDeltaNetSettings
        {
            ModuleName = "self_attn",
            HiddenSize = decoder.HiddenSize,
            KeyHeads = heads,
            ValueHeads = heads,
            KeyWidth = width,
            ValueWidth = width,
            Kernel = Size("linear_conv_kernel_dim", "short_conv_kernel_size", 4),
            NormEpsilon = decoder.NormEpsilon,
            Projections = DeltaProjections.PerChannel,
        };
        var types = LayerTypes.Read(config, decoder.LayerCount, i => IsFull(own, i) ? LayerTypes.Full : LayerTypes.Linear, LayerTypes.Full, LayerTypes.Linear);
        var attention = (LatentAttentionSettings)decoder.Layer(0).Mixer! with { Rope = null };
        var dense = (int)config.Number("first_k_dense_replace", 1);
        var sparse = config.SparseLayers(decoder.LayerCount, i => i >= dense);
        return decoder.WithLinearLayers(types, linear, attention).WithMixture(config.SigmoidMixture(decoder, Facts.Experts!, s_mixture), i => sparse[i]);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var json = CommonSettings.NewConfig(
            this, shape,
            [
                .. LatentSettings.NewLatentConfig(shape), ("first_k_dense_replace", 1), ("linear_conv_kernel_dim", 4), ("linear_head_dim", shape.HiddenSize / shape.Heads),
                ("linear_num_heads", shape.Heads), ("model_max_length", shape.MaxPositions), ("moe_intermediate_size", shape.IntermediateSize), ("moe_renormalize", true),
                ("num_experts", shape.Experts), ("num_experts_per_token", shape.ExpertsPerToken), ("num_shared_experts", 1), ("rms_norm_eps", 1e-5), ("routed_scaling_factor", 1.0),
            ]);
        _ = json.Remove("max_position_embeddings");
        return json;
    }

    // Settings of the published models that have one meaning, and those of later models.
    private static void RequireKnown(ConfigReader config, DecoderConfig decoder)
    {
        config.Require("mla_use_nope", config.Flag("mla_use_nope", true), "latent attention with positions is not supported for this family; it must be true.");
        config.Require("mla_use_output_gate", !config.Flag("mla_use_output_gate"), "a gate of latent attention is not supported for this family; it must be false.");
        config.Require("attn_res_block_size", config.Number("attn_res_block_size", 0) == 0, "attention over the outputs of layers is not supported; it must be 0.");
        config.Require("dense_ffn_hidden", (config.OptionalInt("dense_ffn_hidden") ?? decoder.IntermediateSize) == decoder.IntermediateSize, "a width other than intermediate_size is not supported.");
        config.Require("moe_layer_freq", config.Int("moe_layer_freq", 1) == 1, "dense layers between those with experts are not supported; it must be 1.");
        config.RequireText("moe_router_activation_func", "sigmoid");

        // Groups of experts have effect only where there is more than one.
        _ = config.Has("use_grouped_topk");
    }

    private static bool IsFull(JsonObject? own, int layer) =>
        own?["full_attn_layers"] is JsonArray listed ? listed.Any(n => (int?)n == layer + 1) : (layer + 1) % 4 == 0;
}
