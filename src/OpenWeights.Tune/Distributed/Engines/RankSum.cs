using System.Numerics;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines;

/// <summary>Sums of numbers of all ranks, in the order of ranks: ((x0 + x1) + x2) ..., so that they are the same on any machine.</summary>
internal static unsafe class RankSum
{
    /// <summary>Whether sums of a dtype are supported.</summary>
    internal static bool Has(ScalarType dtype) => dtype is ScalarType.Float32 or ScalarType.Float64 or ScalarType.Int64;

    /// <summary>Sums arrays.</summary>
    /// <param name="dtype">float32, float64 or int64.</param>
    /// <param name="sources">An array of each rank.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="target">May be one of the sources.</param>
    /// <param name="bytes">Length of each array.</param>
    internal static void Add(ScalarType dtype, nint* sources, int ranks, nint target, long bytes)
    {
        switch (dtype)
        {
            case ScalarType.Float32:
                Add<float>(sources, ranks, (float*)target, bytes / sizeof(float));
                break;
            case ScalarType.Float64:
                Add<double>(sources, ranks, (double*)target, bytes / sizeof(double));
                break;
            default:
                Add<long>(sources, ranks, (long*)target, bytes / sizeof(long));
                break;
        }
    }

    private static void Add<T>(nint* sources, int ranks, T* target, long count)
        where T : unmanaged, INumber<T>
    {
        long i = 0;
        for (; i <= count - Vector<T>.Count; i += Vector<T>.Count)
        {
            var sum = Unsafe.ReadUnaligned<Vector<T>>((T*)sources[0] + i);
            for (var rank = 1; rank < ranks; rank++)
            {
                sum += Unsafe.ReadUnaligned<Vector<T>>((T*)sources[rank] + i);
            }

            Unsafe.WriteUnaligned(target + i, sum);
        }

        for (; i < count; i++)
        {
            var sum = ((T*)sources[0])[i];
            for (var rank = 1; rank < ranks; rank++)
            {
                sum += ((T*)sources[rank])[i];
            }

            target[i] = sum;
        }
    }
}
