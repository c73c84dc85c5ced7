using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>Vector operations of one width; kernels are written once for all widths.</summary>
/// <typeparam name="TVector">The vector type.</typeparam>
internal unsafe interface IVectors<TVector>
    where TVector : struct
{
    /// <summary>Number of elements of a vector.</summary>
    static abstract int Width { get; }

    /// <summary>Width in vectors of a tile of six rows whose sums fit into registers.</summary>
    static abstract int TileVectors { get; }

    static abstract TVector Zero { get; }

    static abstract TVector Load(float* start);

    /// <summary>Loads bfloat16 numbers as float32.</summary>
    static abstract TVector LoadHalves(ushort* start);

    static abstract void Store(float* start, TVector values);

    /// <summary>Broadcasts a number.</summary>
    static abstract TVector Create(float value);

    static abstract TVector Add(TVector left, TVector right);

    static abstract TVector Subtract(TVector left, TVector right);

    static abstract TVector Multiply(TVector left, TVector right);

    static abstract TVector Divide(TVector left, TVector right);

    /// <summary>left · right + sum, with a single rounding if the processor supports it.</summary>
    static abstract TVector MultiplyAdd(TVector left, TVector right, TVector sum);

    /// <summary>Elementwise maximum; the right element if either is NaN.</summary>
    static abstract TVector Larger(TVector left, TVector right);

    /// <summary>Elementwise minimum; the right element if either is NaN.</summary>
    static abstract TVector Smaller(TVector left, TVector right);

    /// <summary>Selects elements of one vector where left is less than right, otherwise of another.</summary>
    static abstract TVector WhereLess(TVector left, TVector right, TVector less, TVector other);

    /// <summary>Rounds to the nearest integers.</summary>
    static abstract TVector Round(TVector values);

    /// <summary>values · 2^powers, for whole powers from -252 to 254.</summary>
    static abstract TVector Scale(TVector values, TVector powers);

    /// <summary>Keeps values whose byte is not zero; the others become minus infinity.</summary>
    static abstract TVector Where(byte* shown, TVector values);

    static abstract float Sum(TVector values);

    /// <summary>The sums of four vectors.</summary>
    static abstract Vector128<float> Sums(TVector first, TVector second, TVector third, TVector fourth);

    static abstract float Largest(TVector values);
}
