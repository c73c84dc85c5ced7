using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>How numbers lie in memory; they are computed with in float32.</summary>
internal unsafe interface IElements
{
    /// <summary>Bytes of a number.</summary>
    static abstract int Size { get; }

    /// <summary>Eight numbers from an index on.</summary>
    static abstract Vector256<float> Load(void* start, nint index);

    /// <summary>Rounds and writes eight numbers from an index on.</summary>
    static abstract void Store(void* start, nint index, Vector256<float> values);

    /// <summary>What a number becomes when it is written and read again.</summary>
    static abstract Vector256<float> Round(Vector256<float> values);

    /// <summary>Fewer than eight numbers from an index on, and zeros.</summary>
    static abstract Vector256<float> LoadSome(void* start, nint index, int count);

    /// <summary>Rounds and writes fewer than eight numbers.</summary>
    static abstract void StoreSome(void* start, nint index, Vector256<float> values, int count);
}
