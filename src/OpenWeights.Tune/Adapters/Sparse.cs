using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Matrices of which a few entries are not zero.</summary>
internal static class Sparse
{
    /// <summary>A matrix with given entries, [rows, columns], float32, which has their gradients.</summary>
    /// <param name="values">The entries, [entries].</param>
    /// <param name="places">Their places, row by row, [entries], int64.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="columns">Number of columns.</param>
    internal static Tensor Dense(Tensor values, Tensor places, long rows, long columns)
    {
        using var scope = NewDisposeScope();
        return zeros([rows * columns], values.dtype, values.device).scatter_(0, places, values).view(rows, columns).MoveToOuterDisposeScope();
    }

    /// <summary>Places drawn as in PEFT: the first of a permutation of all, from a seed.</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="columns">Number of columns.</param>
    /// <param name="count">Number of places.</param>
    internal static Tensor Drawn(int seed, long rows, long columns, long count)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator((ulong)seed);
        return randperm(rows * columns, generator: random).narrow(0, 0, count).clone().MoveToOuterDisposeScope();
    }
}
