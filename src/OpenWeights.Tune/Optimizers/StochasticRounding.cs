using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Rounding to bfloat16 up or down at random, so that the mean is the number itself (Gupta et al., 2015; Zamirai et al., 2020).</summary>
internal static class StochasticRounding
{
    // bfloat16 keeps eight significant bits.
    private static readonly Scalar s_lastBit = -7.0;

    // So near to 1 that float32 does not round a whole number and it up to the next.
    private const double AlmostOne = 1 - (1.0 / (1 << 16));
    private static readonly Scalar s_least = 1.1754943508222875e-38;

    /// <summary>
    /// Counted in its last kept bit, a number plus a random part of that bit is cut down to whole bits: it goes to each of its neighbours with
    /// the probability of its nearness to it. A number that bfloat16 can hold stays what it is.
    /// </summary>
    /// <param name="values">float32 numbers of any shape.</param>
    internal static Tensor ToBFloat16(Tensor values)
    {
        using var scope = NewDisposeScope();
        var size = values.abs();
        var bit = size.clamp_min(s_least).log2().floor_().add_(s_lastBit, Scalars.One).exp2();
        var chance = values.empty_like().uniform_(0, AlmostOne);
        return chance.PlusInPlace(size.div_(bit)).floor_().mul_(bit).mul_(values.sign()).to(bfloat16).MoveToOuterDisposeScope();
    }
}
