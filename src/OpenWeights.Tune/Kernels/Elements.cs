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

/// <summary>A storage format of numbers, which are computed in float32.</summary>
internal unsafe interface IElements
{
    /// <summary>Bytes per number.</summary>
    static abstract int Size { get; }

    /// <summary>Loads eight numbers at an index.</summary>
    static abstract Vector256<float> Load(void* start, nint index);

    /// <summary>Rounds and stores eight numbers at an index.</summary>
    static abstract void Store(void* start, nint index, Vector256<float> values);

    /// <summary>Rounds a number to the format.</summary>
    static abstract Vector256<float> Round(Vector256<float> values);

    /// <summary>Loads fewer than eight numbers at an index, followed by zeros.</summary>
    static abstract Vector256<float> LoadSome(void* start, nint index, int count);

    /// <summary>Rounds and stores fewer than eight numbers.</summary>
    static abstract void StoreSome(void* start, nint index, Vector256<float> values, int count);
}

/// <summary>bfloat16: the upper half of a float32, rounded to nearest, ties to even, as torch rounds it.</summary>
internal readonly unsafe struct BFloat16Elements : IElements
{
    public static int Size => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Load(void* start, nint index) => Widen(Vector128.Load((ushort*)start + index));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(void* start, nint index, Vector256<float> values) => Narrow(values).Store((ushort*)start + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> Round(Vector256<float> values) => Widen(Narrow(values));

    public static Vector256<float> LoadSome(void* start, nint index, int count)
    {
        var values = Vector128<ushort>.Zero;
        for (var i = 0; i < count; i++)
        {
            values = values.WithElement(i, ((ushort*)start)[index + i]);
        }

        return Widen(values);
    }

    public static void StoreSome(void* start, nint index, Vector256<float> values, int count)
    {
        var halves = Narrow(values);
        for (var i = 0; i < count; i++)
        {
            ((ushort*)start)[index + i] = halves[i];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector128<ushort> halves)
    {
        var (lower, upper) = Vector128.Widen(halves);
        return (Vector256.Create(lower, upper) << 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ushort> Narrow(Vector256<float> values)
    {
        var bits = values.AsUInt32();
        var rounded = bits + Vector256.Create(0x7FFFu) + ((bits >>> 16) & Vector256<uint>.One);

        // Rounding up must not turn a NaN into infinity.
        var kept = Vector256.ConditionalSelect(Vector256.Equals(values, values).AsUInt32(), rounded, Vector256.Create(0x7FC00000u)) >>> 16;
        return Vector128.Narrow(kept.GetLower(), kept.GetUpper());
    }
}
