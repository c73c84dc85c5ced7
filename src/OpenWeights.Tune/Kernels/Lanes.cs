using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>Splits a row into groups of eight numbers; the last may be shorter.</summary>
internal static unsafe class Lanes
{
    /// <summary>Number of elements per group.</summary>
    internal const int Width = 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> Read<T>(void* row, nint index, nint count)
        where T : struct, IElements =>
        count - index >= Width ? T.Load(row, index) : T.LoadSome(row, index, (int)(count - index));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Write<T>(void* row, nint index, nint count, Vector256<float> values)
        where T : struct, IElements
    {
        if (count - index >= Width)
        {
            T.Store(row, index, values);
        }
        else
        {
            T.StoreSome(row, index, values, (int)(count - index));
        }
    }

    /// <summary>Start of a row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void* Row<T>(nint start, long offset)
        where T : struct, IElements => (byte*)start + (offset * T.Size);
}
