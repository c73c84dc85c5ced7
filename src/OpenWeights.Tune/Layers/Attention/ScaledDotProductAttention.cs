using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Softmax attention with a scaling factor and an optional soft cap of the scores.</summary>
internal sealed class ScaledDotProductAttention : IDisposable
{
    private readonly Scalar? _queryFactor;
    private readonly BlockAttentionSettings _blocks;

    internal ScaledDotProductAttention(AttentionSettings settings)
    {
        // torch's attention always divides by sqrt(head_dim), so queries are multiplied by the remaining factor.
        var factor = settings.Scale * Math.Sqrt(settings.HeadDimension);
        _queryFactor = factor == 1 ? null : factor;
        var cap = settings.ScoreSoftCap;
        _blocks = new BlockAttentionSettings(settings.Scale, cap, cap is null ? null : 1 / cap.Value, double.NegativeInfinity, settings.SlidingWindow);
    }

    /// <summary>Whether torch's attention is used, with masks from <see cref="AttentionMask.ToBias"/>: GPUs have fused kernels, but none supports soft caps.</summary>
    internal static bool IsFused(Device device, bool limitsScores) => device.type != DeviceType.CPU && !limitsScores;

    /// <summary>Computes attention, [batch, heads, queries, head_dim].</summary>
    /// <param name="query">Queries, [batch, heads, queries, head_dim].</param>
    /// <param name="key">Keys, [batch, key/value heads, keys, head_dim].</param>
    /// <param name="value">Values, of the same shape as the keys.</param>
    /// <param name="context">Mask and other inputs.</param>
    internal Tensor Attend(Tensor query, Tensor key, Tensor value, LayerContext context)
    {
        if (!IsFused(query.device, _blocks.Cap is not null))
        {
            return BlockAttention.Attend(query, key, value, context.Mask, _blocks, context.Saved);
        }

        using var scope = NewDisposeScope();
        var scaled = _queryFactor is null ? query : query.mul(_queryFactor);
        var causal = context.Mask is null && !context.LooksAtAll;
        return nn.functional.scaled_dot_product_attention(scaled, Repeat(key, query.size(1)), Repeat(value, query.size(1)), context.Mask, 0, causal).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        _queryFactor?.Dispose();
        _blocks.Scale.Dispose();
        _blocks.Cap?.Dispose();
        _blocks.InverseCap?.Dispose();
        _blocks.NegativeInfinity.Dispose();
    }

    /// <summary>Repeats each key/value head for its query heads.</summary>
    private static Tensor Repeat(Tensor states, long heads)
    {
        var (batch, own, tokens, width) = (states.size(0), states.size(1), states.size(2), states.size(3));
        return own == heads ? states : states.unsqueeze(2).expand(batch, own, heads / own, tokens, width).reshape(batch, heads, tokens, width);
    }
}
