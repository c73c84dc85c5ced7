using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// float32 numbers in two parts of 16 bits: the bfloat16 next to a number, ties away from zero, and what its bits are apart from that
/// one's, which then just fits. Together they are the number bit for bit, in as much memory.
/// </summary>
internal static unsafe class SplitFloat
{
    /// <summary>The numbers, float32, in the caller's dispose scope.</summary>
    /// <param name="upper">bfloat16, in one piece on the CPU.</param>
    /// <param name="lower">int16, of its shape.</param>
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
    /// <param name="numbers">float32, in one piece on the CPU.</param>
    /// <param name="upper">Where the bfloat16 go.</param>
    /// <param name="lower">Where the int16 go.</param>
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

    /// <summary>Up to eight numbers from an index on, of as many as there are.</summary>
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

    /// <summary>Writes up to eight numbers from an index on, of as many as there are.</summary>
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
