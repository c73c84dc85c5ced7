using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Rotary tables and masks of one forward pass, each created once for all layers with the same settings.</summary>
internal sealed class LayerContexts(DecoderConfig config, ModelInput input, ScalarType dtype)
{
    private readonly Dictionary<RopeConfig, (Tensor Cos, Tensor Sin)> _tables = new(ReferenceEqualityComparer.Instance);
    private readonly List<(LayerConfig Layer, AttentionContext Context)> _made = [];

    /// <summary>The context of a layer; its tensors are in the caller's dispose scope.</summary>
    internal AttentionContext Of(LayerConfig layer)
    {
        var same = _made.Find(m => ReferenceEquals(m.Layer.Rope, layer.Rope) && m.Layer.SlidingWindow == layer.SlidingWindow).Context;
        if (same is not null)
        {
            return same;
        }

        var (cos, sin) = layer.Rope is null ? default : Tables(layer.Rope);
        var context = new AttentionContext
        {
            Cos = cos,
            Sin = sin,
            Mask = Mask(layer.SlidingWindow),
            LooksAtAll = input.IsSingleStep,
            SlidingWindow = layer.SlidingWindow,
            Cache = input.Cache,
            Routers = input.Routers,
        };
        _made.Add((layer, context));
        return context;
    }

    private Tensor? Mask(int? window)
    {
        var same = _made.FindIndex(m => m.Layer.SlidingWindow == window);
        return same >= 0 ? _made[same].Context.Mask : MakeMask(window);
    }

    private Tensor? MakeMask(int? window)
    {
        var mask = AttentionMask.For(input, window);
        return mask is not null && ScaledDotProductAttention.IsFused(mask.device, config.ScoreSoftCap is not null) ? AttentionMask.ToBias(mask, dtype) : mask;
    }

    private (Tensor Cos, Tensor Sin) Tables(RopeConfig rope)
    {
        if (!_tables.TryGetValue(rope, out var made))
        {
            made = _tables[rope] = new RotaryEmbedding(rope, config.HeadDimension).Tables(input.PositionIds, input.LongestPosition + 1, input.DocumentLengths, dtype);
        }

        return made;
    }
}
