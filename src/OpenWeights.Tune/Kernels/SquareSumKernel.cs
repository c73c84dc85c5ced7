using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Sum of squares of all elements of tensors, in float64 and one pass, the same for any number of threads.</summary>
internal static unsafe class SquareSumKernel
{
    /// <summary>The sum over float32 or bfloat16 tensors that <see cref="CpuKernel"/> supports.</summary>
    internal static double Of(IReadOnlyList<Tensor> tensors)
    {
        var arrays = tensors.Select(static t => (Start: (nint)CpuKernel.Pointer(t), IsSmall: t.dtype == bfloat16)).ToArray();
        var parts = ArrayPart.Of(tensors.Select(static t => t.numel()));
        var sums = new double[parts.Length];
        ArrayPart.Run(parts, i =>
        {
            var array = arrays[parts[i].Array];
            sums[i] = array.IsSmall ? Of<BFloat16Elements>(array.Start, parts[i]) : Of<Float32Elements>(array.Start, parts[i]);
        });
        return sums.Sum();
    }

    private static double Of<T>(nint start, ArrayPart part)
        where T : struct, IElements
    {
        var row = Lanes.Row<T>(start, part.Start);
        var (lower, upper) = (Vector256<double>.Zero, Vector256<double>.Zero);
        for (nint i = 0; i < part.Count; i += Lanes.Width)
        {
            var (left, right) = Vector256.Widen(Lanes.Read<T>(row, i, (nint)part.Count));
            lower += left * left;
            upper += right * right;
        }

        return Vector256.Sum(lower + upper);
    }
}
