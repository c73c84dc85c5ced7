using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Softmax attention with the scale and the limit that a config gives to its scores.</summary>
internal sealed class ScaledScores : IDisposable
{
    private readonly Scalar? _queryFactor;
    private readonly Scalar? _inverseCap;
    private readonly Scalar? _cap;
    private readonly Scalar _nowhere = double.NegativeInfinity;

    internal ScaledScores(DecoderConfig config)
    {
        // torch's own attention divides by sqrt(head_dim) and knows no other scale, so queries bring the rest of theirs along.
        var factor = config.ScoreSoftCap is null ? config.AttentionScale * Math.Sqrt(config.HeadDimension) : config.AttentionScale;
        _queryFactor = factor == 1 ? null : factor;
        if (config.ScoreSoftCap is { } cap)
        {
            (_inverseCap, _cap) = (1 / cap, cap);
        }
    }

    /// <summary>Values, mixed by where each query looks, [batch, heads, queries, head_dim].</summary>
    internal Tensor Mix(Tensor query, Tensor key, Tensor value, AttentionContext context)
    {
        using var scope = NewDisposeScope();
        var scaled = _queryFactor is null ? query : query.mul(_queryFactor);
        var mixed = _cap is null
            ? nn.functional.scaled_dot_product_attention(scaled, key, value, context.Mask, 0, context.Mask is null && !context.LooksAtAll)
            : Capped(scaled, key, value, context);
        return mixed.MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        _queryFactor?.Dispose();
        _inverseCap?.Dispose();
        _cap?.Dispose();
        _nowhere.Dispose();
    }

    // No kernel limits scores, so they are there at once: [batch, heads, queries, keys].
    private Tensor Capped(Tensor query, Tensor key, Tensor value, AttentionContext context)
    {
        var scores = query.matmul(key.transpose(-2, -1)).mul(_inverseCap!).tanh().mul(_cap!);
        if (context.Mask is not null)
        {
            using var hidden = context.Mask.logical_not();
            scores = scores.masked_fill(hidden, _nowhere);
        }

        return scores.softmax(-1, float32).to(query.dtype).matmul(value);
    }
}
