using System.Numerics;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// The sum of the squares of tensors on the CPU, in float64 and in one pass. It is added up by parts in their order, so that it does not
/// depend on threads.
/// </summary>
internal static unsafe class SquareSum
{
    private const int BlockLength = 1024;

    /// <summary>Whether a tensor can be gone through.</summary>
    internal static bool CanRun(Tensor tensor) => CpuMemory.Holds(tensor) && (tensor.dtype == float32 || tensor.dtype == bfloat16);

    /// <summary>The sum over all elements of all tensors.</summary>
    internal static double Of(IReadOnlyList<Tensor> tensors)
    {
        var arrays = tensors.Select(static t => ((nint)CpuMemory.Start(t), t.dtype == bfloat16, t.numel())).ToArray();
        var sums = new double[CpuMemory.CountParts(arrays.Select(static a => a.Item3))];
        CpuMemory.ForParts([.. arrays.Select(static a => a.Item3)], part =>
        {
            var (address, small, _) = arrays[part.Array];
            sums[part.Number] = small
                ? Of(new ReadOnlySpan<ushort>((ushort*)address + part.Start, part.Count))
                : Of(new ReadOnlySpan<float>((float*)address + part.Start, part.Count));
        });
        return sums.Sum();
    }

    private static double Of(ReadOnlySpan<ushort> numbers)
    {
        Span<float> converted = stackalloc float[BlockLength];
        var sum = 0.0;
        for (; !numbers.IsEmpty; numbers = numbers[Math.Min(BlockLength, numbers.Length)..])
        {
            var block = converted[..Math.Min(BlockLength, numbers.Length)];
            BFloat16Bits.ToFloat(numbers[..block.Length], block);
            sum += Of(block);
        }

        return sum;
    }

    private static double Of(ReadOnlySpan<float> numbers)
    {
        var (low, high) = (Vector<double>.Zero, Vector<double>.Zero);
        var i = 0;
        for (; i + Vector<float>.Count <= numbers.Length; i += Vector<float>.Count)
        {
            Vector.Widen(new Vector<float>(numbers[i..]), out var left, out var right);
            low += left * left;
            high += right * right;
        }

        var sum = Vector.Sum(low + high);
        for (; i < numbers.Length; i++)
        {
            sum += (double)numbers[i] * numbers[i];
        }

        return sum;
    }
}
