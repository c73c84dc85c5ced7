using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Softmax attention with a scaling factor, an optional soft cap of the scores and optional attention sinks.</summary>
internal sealed class ScaledDotProductAttention : IDisposable
{
    private readonly Scalar? _queryFactor;
    private readonly bool _isLimited;
    private readonly BlockAttentionSettings _blocks;

    internal ScaledDotProductAttention(AttentionSettings settings)
    {
        // torch's attention always divides by sqrt(head_dim), so queries are multiplied by the remaining factor.
        var factor = settings.Scale * Math.Sqrt(settings.HeadDimension);
        _queryFactor = factor == 1 ? null : factor;
        var cap = settings.ScoreSoftCap;
        _isLimited = settings.LimitsScores;
        _blocks = new BlockAttentionSettings(settings.Scale, cap, cap is null ? null : 1 / cap.Value, double.NegativeInfinity, settings.Window);
    }

    /// <summary>Whether torch's attention is used, with masks from <see cref="AttentionMask.ToBias"/>: GPUs have fused kernels, but none supports soft caps or sinks.</summary>
    internal static bool IsFused(Device device, bool limitsScores) => device.type != DeviceType.CPU && !limitsScores;

    /// <summary>The buffers of the CPU's kernel in backward: keys, values and their gradients of a head, and some scores, for each thread.</summary>
    /// <param name="width">Head dimension.</param>
    internal static TokenMemory Working(long width) =>
        new(0, Floats: get_num_threads() * 5 * width, Limited: get_num_threads() * AttentionSizes.BytesOfKey, Limit: get_num_threads() * AttentionSizes.ScoreBytes);

    /// <summary>Computes attention, [batch, heads, queries, width of the values].</summary>
    /// <param name="query">Queries, [batch, heads, queries, head_dim].</param>
    /// <param name="key">Keys, [batch, key/value heads, keys, head_dim].</param>
    /// <param name="value">Values, of the same shape as the keys, except that their heads may have another width.</param>
    /// <param name="context">Mask and other inputs.</param>
    /// <param name="sinks">Attention sink of each query head, [heads]: the score of one more key, whose value is 0; null for none.</param>
    internal Tensor Attend(Tensor query, Tensor key, Tensor value, LayerContext context, Tensor? sinks = null)
    {
        if (!IsFused(query.device, _isLimited))
        {
            return value.size(-1) == key.size(-1)
                ? BlockAttention.Attend(query, key, value, context.Mask, _blocks, context.Saved, sinks)
                : OfUnequalWidths(query, key, value, context, sinks);
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

    // The narrower heads are filled with zeros, which change neither the scores nor the part of the result that is kept.
    private Tensor OfUnequalWidths(Tensor query, Tensor key, Tensor value, LayerContext context, Tensor? sinks)
    {
        using var scope = NewDisposeScope();
        var (width, wide) = (value.size(-1), Math.Max(value.size(-1), key.size(-1)));
        var mixed = BlockAttention.Attend(Filled(query, wide), Filled(key, wide), Filled(value, wide), context.Mask, _blocks, context.Saved, sinks);
        return mixed.narrow(-1, 0, width).MoveToOuterDisposeScope();
    }

    private static Tensor Filled(Tensor states, long width) =>
        states.size(-1) == width ? states : cat([states, zeros([.. states.shape[..^1], width - states.size(-1)], states.dtype, states.device)], -1);

    /// <summary>Repeats each key/value head for its query heads.</summary>
    private static Tensor Repeat(Tensor states, long heads)
    {
        var (batch, own, tokens, width) = (states.size(0), states.size(1), states.size(2), states.size(3));
        return own == heads ? states : states.unsqueeze(2).expand(batch, own, heads / own, tokens, width).reshape(batch, heads, tokens, width);
    }
}
