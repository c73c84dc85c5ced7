using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>float32.</summary>
internal readonly unsafe struct Float32Elements : IElements
{
    public static int Size => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Load(void* start, nint index) => Vector256.Load((float*)start + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(void* start, nint index, Vector256<float> values) => values.Store((float*)start + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Round(Vector256<float> values) => values;

    public static Vector256<float> LoadSome(void* start, nint index, int count)
    {
        var values = Vector256<float>.Zero;
        for (var i = 0; i < count; i++)
        {
            values = values.WithElement(i, ((float*)start)[index + i]);
        }

        return values;
    }

    public static void StoreSome(void* start, nint index, Vector256<float> values, int count)
    {
        for (var i = 0; i < count; i++)
        {
            ((float*)start)[index + i] = values[i];
        }
    }
}
