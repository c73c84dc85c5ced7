namespace OpenWeights.Tune.Kernels;

/// <summary>The float32 numbers that a processor works on at once; kernels are written once for every width.</summary>
/// <typeparam name="TVector">The numbers of one vector.</typeparam>
internal unsafe interface IVectors<TVector>
    where TVector : struct
{
    /// <summary>Numbers of a vector.</summary>
    static abstract int Width { get; }

    /// <summary>How many vectors wide a tile of six rows may be for its sums to stay in registers.</summary>
    static abstract int TileVectors { get; }

    static abstract TVector Zero { get; }

    static abstract TVector Load(float* start);

    /// <summary>bfloat16 numbers, as float32.</summary>
    static abstract TVector LoadHalves(ushort* start);

    static abstract void Store(float* start, TVector values);

    /// <summary>A number in every place.</summary>
    static abstract TVector Create(float value);

    static abstract TVector Add(TVector left, TVector right);

    static abstract TVector Subtract(TVector left, TVector right);

    static abstract TVector Multiply(TVector left, TVector right);

    static abstract TVector Divide(TVector left, TVector right);

    /// <summary>left · right + sum, rounded once where a processor can.</summary>
    static abstract TVector MultiplyAdd(TVector left, TVector right, TVector sum);

    /// <summary>The larger of each two; the right one where either is not a number.</summary>
    static abstract TVector Larger(TVector left, TVector right);

    /// <summary>The smaller of each two; the right one where either is not a number.</summary>
    static abstract TVector Smaller(TVector left, TVector right);

    /// <summary>Those of one where left is less than right, and those of another elsewhere.</summary>
    static abstract TVector WhereLess(TVector left, TVector right, TVector less, TVector other);

    /// <summary>The nearest whole numbers.</summary>
    static abstract TVector Round(TVector values);

    /// <summary>values · 2^powers, for whole powers from -252 to 254.</summary>
    static abstract TVector Scale(TVector values, TVector powers);

    /// <summary>The values where bytes are not zero, and minus infinity elsewhere.</summary>
    static abstract TVector Where(byte* shown, TVector values);

    static abstract float Sum(TVector values);

    static abstract float Largest(TVector values);
}
