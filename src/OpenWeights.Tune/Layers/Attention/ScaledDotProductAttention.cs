using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Softmax attention with the scale and the limit that a config gives to its scores.</summary>
internal sealed class ScaledDotProductAttention : IDisposable
{
    private readonly Scalar? _queryFactor;
    private readonly BlockAttentionSettings _blocks;

    internal ScaledDotProductAttention(AttentionSettings settings)
    {
        // torch's own attention divides by sqrt(head_dim) and knows no other scale, so queries bring the rest of theirs along.
        var factor = settings.Scale * Math.Sqrt(settings.HeadDimension);
        _queryFactor = factor == 1 ? null : factor;
        var cap = settings.ScoreSoftCap;
        _blocks = new BlockAttentionSettings(settings.Scale, cap, cap is null ? null : 1 / cap.Value, double.NegativeInfinity, settings.SlidingWindow);
    }

    /// <summary>Whether torch's own attention is used, whose masks <see cref="AttentionMask.ToBias"/> makes: a GPU has fused kernels, none of which limits scores.</summary>
    internal static bool IsFused(Device device, bool limitsScores) => device.type != DeviceType.CPU && !limitsScores;

    /// <summary>Values, mixed by where each query looks, [batch, heads, queries, head_dim].</summary>
    /// <param name="query">[batch, heads, queries, head_dim].</param>
    /// <param name="key">[batch, key/value heads, keys, head_dim].</param>
    /// <param name="value">Of the key's shape.</param>
    /// <param name="context">Who may look at whom.</param>
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

    /// <summary>Each key/value head once for every query head that looks at it.</summary>
    private static Tensor Repeat(Tensor states, long heads)
    {
        var (batch, own, tokens, width) = (states.size(0), states.size(1), states.size(2), states.size(3));
        return own == heads ? states : states.unsqueeze(2).expand(batch, own, heads / own, tokens, width).reshape(batch, heads, tokens, width);
    }
}
