using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Splits float32 numbers into two parts of 16 bits: the nearest bfloat16, ties away from zero, and the difference of the bit patterns,
/// which then fits into 16 bits. Together they restore the number exactly, in the same amount of memory.
/// </summary>
internal static unsafe class SplitFloat
{
    /// <summary>The float32 numbers, in the caller's dispose scope.</summary>
    /// <param name="upper">Upper parts, bfloat16, contiguous on the CPU.</param>
    /// <param name="lower">Lower parts, int16, of the same shape.</param>
    internal static Tensor Merge(Tensor upper, Tensor lower)
    {
        var merged = empty(upper.shape, float32);
        var (from, rest, to) = ((nint)CpuKernel.Pointer(upper), (nint)CpuKernel.Pointer(lower), (nint)CpuKernel.Pointer(merged));
        CpuKernel.Run(upper.numel(), 1, (first, last) =>
        {
            for (var i = (nint)first; i < last; i += Lanes.Width)
            {
                Lanes.Write<Float32Elements>((void*)to, i, (nint)last, Read((void*)from, (void*)rest, i, (nint)last));
            }
        });
        GC.KeepAlive((upper, lower, merged));
        return merged;
    }

    /// <summary>Splits numbers.</summary>
    /// <param name="numbers">The float32 numbers, contiguous on the CPU.</param>
    /// <param name="upper">Destination of the upper parts.</param>
    /// <param name="lower">Destination of the lower parts.</param>
    internal static void Split(Tensor numbers, Tensor upper, Tensor lower)
    {
        var (from, to, rest) = ((nint)CpuKernel.Pointer(numbers), (nint)CpuKernel.Pointer(upper), (nint)CpuKernel.Pointer(lower));
        CpuKernel.Run(numbers.numel(), 1, (first, last) =>
        {
            for (var i = (nint)first; i < last; i += Lanes.Width)
            {
                Write((void*)to, (void*)rest, i, (nint)last, Lanes.Read<Float32Elements>((void*)from, i, (nint)last));
            }
        });
        GC.KeepAlive((numbers, upper, lower));
    }

    /// <summary>Loads up to eight numbers at an index, limited by the total number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> Read(void* upper, void* lower, nint index, nint count)
    {
        if (count - index >= Lanes.Width)
        {
            return Merged(Vector128.Load((ushort*)upper + index), Vector128.Load((short*)lower + index));
        }

        var (high, low) = (Vector128<ushort>.Zero, Vector128<short>.Zero);
        for (var i = 0; i < count - index; i++)
        {
            (high, low) = (high.WithElement(i, ((ushort*)upper)[index + i]), low.WithElement(i, ((short*)lower)[index + i]));
        }

        return Merged(high, low);
    }

    /// <summary>Stores up to eight numbers at an index, limited by the total number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Write(void* upper, void* lower, nint index, nint count, Vector256<float> values)
    {
        // Adding half of the last bit must not turn a NaN into a number.
        var bits = Vector256.ConditionalSelect(Vector256.Equals(values, values).AsUInt32(), values.AsUInt32(), Vector256.Create(0x7FC00000u));
        var rounded = (bits + Vector256.Create(0x8000u)) >>> 16;
        var rest = bits & Vector256.Create(0xFFFFu);
        var (high, low) = (Vector128.Narrow(rounded.GetLower(), rounded.GetUpper()), Vector128.Narrow(rest.GetLower(), rest.GetUpper()));
        if (count - index >= Lanes.Width)
        {
            high.Store((ushort*)upper + index);
            low.Store((ushort*)lower + index);
            return;
        }

        for (var i = 0; i < count - index; i++)
        {
            (((ushort*)upper)[index + i], ((ushort*)lower)[index + i]) = (high[i], low[i]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Merged(Vector128<ushort> upper, Vector128<short> lower)
    {
        var (high1, high2) = Vector128.Widen(upper);
        var (low1, low2) = Vector128.Widen(lower);
        return ((Vector256.Create(high1, high2) << 16).AsInt32() + Vector256.Create(low1, low2)).AsSingle();
    }
}
