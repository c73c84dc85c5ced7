using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>A part of one of several arrays of different lengths.</summary>
/// <param name="Array">Which array it is of.</param>
/// <param name="Start">Its first element.</param>
/// <param name="Count">Its number of elements.</param>
internal readonly record struct ArrayPart(int Array, long Start, long Count)
{
    // Large enough for a thread's while, small enough that threads end together.
    internal const int Length = 1 << 16;

    /// <summary>Cuts arrays into parts: how depends on their lengths alone, so that sums of parts are the same for any number of threads.</summary>
    internal static ArrayPart[] Of(IEnumerable<long> lengths) =>
    [
        .. lengths.SelectMany(static (length, array) => Enumerable.Range(0, (int)((length + Length - 1) / Length))
            .Select(i => new ArrayPart(array, (long)i * Length, Math.Min(Length, length - ((long)i * Length))))),
    ];

    /// <summary>Runs some work for each part, with as many threads as torch uses.</summary>
    internal static void Run(ArrayPart[] parts, Action<int> work) =>
        Parallel.For(0, parts.Length, new ParallelOptions { MaxDegreeOfParallelism = Math.Max(1, get_num_threads()) }, work);
}
