using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>Steps of the softmax of one row, in vectors of the kernels' width.</summary>
internal static unsafe class RowSoftmax
{
    /// <summary>exp(x - maximum) in place, and the sum.</summary>
    internal static double Exponentials(float* row, nint count) => Exponentials(row, count, Largest(row, count));

    /// <summary>exp(x - largest) in place, and the sum.</summary>
    internal static double Exponentials(float* row, nint count, float largest) => CpuKernel.IsWide
        ? VectorFunctions.Exponentials<Vectors512, Vector512<float>>(row, count, largest)
        : VectorFunctions.Exponentials<Vectors256, Vector256<float>>(row, count, largest);

    /// <summary>The maximum of some numbers.</summary>
    internal static float Largest(float* row, nint count) =>
        CpuKernel.IsWide ? VectorFunctions.Largest<Vectors512, Vector512<float>>(row, count) : VectorFunctions.Largest<Vectors256, Vector256<float>>(row, count);

    /// <summary>c tanh(x / c) in place.</summary>
    internal static void Limit(float* row, nint count, float cap)
    {
        if (CpuKernel.IsWide)
        {
            VectorFunctions.Limit<Vectors512, Vector512<float>>(row, count, cap);
        }
        else
        {
            VectorFunctions.Limit<Vectors256, Vector256<float>>(row, count, cap);
        }
    }

    /// <summary>Multiplies numbers in place.</summary>
    internal static void Scale(float* row, nint count, float factor)
    {
        if (CpuKernel.IsWide)
        {
            VectorFunctions.Scale<Vectors512, Vector512<float>>(row, count, factor);
        }
        else
        {
            VectorFunctions.Scale<Vectors256, Vector256<float>>(row, count, factor);
        }
    }
}
