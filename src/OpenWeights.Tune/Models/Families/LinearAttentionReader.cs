using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads settings of linear attention that several families have.</summary>
internal static class LinearAttentionReader
{
    /// <summary>The settings of linear attention by the gated delta rule.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder, for its width.</param>
    /// <param name="projections">Which layers compute its inputs.</param>
    /// <param name="usual">Heads and widths of keys and values if the config has none.</param>
    internal static GatedDeltaNetSettings DeltaNet(this ConfigReader config, DecoderConfig decoder, DeltaProjections projections, DeltaSizes usual)
    {
        var settings = new GatedDeltaNetSettings
        {
            HiddenSize = decoder.HiddenSize,
            KeyHeads = config.OptionalDimension("linear_num_key_heads", usual.KeyHeads),
            ValueHeads = config.OptionalDimension("linear_num_value_heads", usual.ValueHeads),
            KeyWidth = config.OptionalDimension("linear_key_head_dim", usual.KeyWidth),
            ValueWidth = config.OptionalDimension("linear_value_head_dim", usual.ValueWidth),
            Kernel = config.Dimension("linear_conv_kernel_dim", 4),
            NormEpsilon = decoder.NormEpsilon,
            Projections = projections,
        };
        config.Require(
            "linear_num_value_heads", settings.ValueHeads.Size % settings.KeyHeads.Size == 0,
            $"{settings.ValueHeads.Size} is not a multiple of linear_num_key_heads, which is {settings.KeyHeads.Size}.");
        return settings;
    }

    /// <summary>A setting where null is the same as none.</summary>
    internal static Dimension OptionalDimension(this ConfigReader config, string setting, int usual) => new(setting, config.OptionalInt(setting) ?? usual);

    /// <summary>Qwen3-Next and Qwen 3.5: gated attention in every fourth layer, linear attention in the others, and norms that add one to their weight.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="projections">Which layers compute the inputs of linear attention.</param>
    internal static DecoderConfig AsQwenHybrid(this DecoderConfig decoder, ConfigReader config, DeltaProjections projections)
    {
        // Written for other libraries; the layers of mtp predict more than one token, and are not part of the decoder.
        config.Require("attn_output_gate", config.Flag("attn_output_gate", true), "attention without a gate of its output is not supported for this family; it must be true.");
        foreach (var setting in new[] { "mamba_ssm_dtype", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings" })
        {
            _ = config.Has(setting);
        }

        var normed = decoder with { QueryKeyNorm = QueryKeyNorm.PerHead, Norm = new RmsNormSettings(decoder.NormEpsilon, AddsOne: true, ScalesBeforeRounding: true) };
        var interval = config.Int("full_attention_interval", 4);
        var types = LayerTypes.Read(config, decoder.LayerCount, i => (i + 1) % interval == 0 ? LayerTypes.Full : LayerTypes.Linear, LayerTypes.Full, LayerTypes.Linear);
        return normed.WithLinearLayers(types, config.DeltaNet(normed, projections, new DeltaSizes(16, 32, 128, 128)), normed.Attention with { OutputGate = OutputGate.InQuery, Rope = decoder.Rope });
    }

    /// <summary>Gives layers linear attention or attention.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="types">The type of each layer.</param>
    /// <param name="linear">Linear attention.</param>
    /// <param name="attention">Attention.</param>
    internal static DecoderConfig WithLinearLayers(this DecoderConfig decoder, IReadOnlyList<string> types, MixerSettings linear, MixerSettings attention) => decoder with
    {
        Layers = [.. types.Select((type, i) => type == LayerTypes.Full ? decoder.Layer(i) with { Mixer = attention } : decoder.Layer(i) with { Rope = null, Mixer = linear })],
    };

    /// <summary>Settings of a new Qwen hybrid's config.json besides the common ones: linear attention as wide as attention, with twice as many heads of values.</summary>
    internal static (string Key, JsonNode? Value)[] NewQwenHybrid(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var width = shape.HiddenSize / shape.Heads;
        return
        [
            ("attention_bias", false), ("full_attention_interval", 4), ("linear_conv_kernel_dim", 4), ("linear_key_head_dim", width), ("linear_num_key_heads", Math.Max(1, shape.Heads / 2)),
            ("linear_num_value_heads", 2 * Math.Max(1, shape.Heads / 2)), ("linear_value_head_dim", width), ("partial_rotary_factor", width % 8 == 0 ? 0.25 : 1.0), ("rms_norm_eps", 1e-6),
        ];
    }
}

/// <summary>Heads and widths of linear attention.</summary>
/// <param name="KeyHeads">Number of heads of keys.</param>
/// <param name="ValueHeads">Number of heads of values.</param>
/// <param name="KeyWidth">Width of a head of keys.</param>
/// <param name="ValueWidth">Width of a head of values.</param>
internal sealed record DeltaSizes(int KeyHeads, int ValueHeads, int KeyWidth, int ValueWidth);
