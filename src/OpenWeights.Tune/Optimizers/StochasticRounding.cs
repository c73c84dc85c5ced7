using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Stochastic rounding to bfloat16, which preserves the value in expectation (Gupta et al., 2015; Zamirai et al., 2020).</summary>
internal static class StochasticRounding
{
    // bfloat16 has eight significant bits.
    private static readonly Scalar s_lastBit = -7.0;

    // Upper limit of the random fraction: below it float32 does not round integer plus fraction up to the next integer.
    private const double AlmostOne = 1 - (1.0 / (1 << 16));
    private static readonly Scalar s_least = 1.1754943508222875e-38;

    /// <summary>
    /// In units of the last kept bit, a random fraction is added and the sum truncated: a number rounds to each neighbor with a probability
    /// proportional to its closeness. Numbers that bfloat16 can represent do not change.
    /// </summary>
    /// <param name="values">float32 values of any shape.</param>
    internal static Tensor ToBFloat16(Tensor values)
    {
        using var scope = NewDisposeScope();
        var size = values.abs();
        var bit = size.clamp_min(s_least).log2().floor_().add_(s_lastBit, Scalars.One).exp2();
        var chance = values.empty_like().uniform_(0, AlmostOne);
        return chance.PlusInPlace(size.div_(bit)).floor_().mul_(bit).mul_(values.sign()).to(bfloat16).MoveToOuterDisposeScope();
    }
}
