using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Changes what the layers of a decoder are made of.</summary>
internal static class LayerChoices
{
    /// <summary>Changes each layer.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="change">The new config of a layer, from the old one and its index.</param>
    internal static DecoderConfig WithLayers(this DecoderConfig decoder, Func<LayerConfig, int, LayerConfig> change) =>
        decoder with { Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => change(decoder.Layer(i), i))] };

    /// <summary>Changes the attention of each layer. It has the rotary embedding and the window that the layer had before.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="change">The new settings, from the old ones.</param>
    internal static DecoderConfig WithAttention(this DecoderConfig decoder, Func<AttentionSettings, AttentionSettings> change) => decoder.WithLayers((layer, _) => layer with
    {
        Mixer = change(layer.Mixer as AttentionSettings ?? decoder.Attention with { Rope = layer.Rope, SlidingWindow = layer.SlidingWindow }),
    });

    /// <summary>Leaves the rotary embedding out of some layers (NoPE).</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="rotates">Whether a layer has it.</param>
    internal static DecoderConfig WithRotation(this DecoderConfig decoder, Func<int, bool> rotates) =>
        decoder.WithLayers((layer, i) => rotates(i) ? layer : layer with { Rope = null });

    /// <summary>Replaces the feed-forward blocks by blocks without a gate.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="up">Name of the projection to the hidden layer.</param>
    /// <param name="down">Name of the projection back.</param>
    /// <param name="learnsActivation">Whether the activation has learned parameters.</param>
    internal static DecoderConfig WithPlainFeedForward(this DecoderConfig decoder, string up, string down, bool learnsActivation = false)
    {
        var plain = new PlainFeedForwardSettings
        {
            HiddenSize = decoder.HiddenSize,
            Inner = decoder.FeedForward.Inner,
            Activation = decoder.Activation,
            LearnsActivation = learnsActivation,
            HasBias = decoder.FeedForwardBias,
            UpName = up,
            DownName = down,
        };
        return decoder.WithLayers((layer, _) => layer with { FeedForward = plain });
    }
}
