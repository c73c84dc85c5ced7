using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Vectors of sixteen floats, for processors with AVX-512. Instructions are named where one with another rounding could stand in for them in code that is not
/// optimised yet: a sum must be the same however often its method was called.
/// </summary>
internal readonly unsafe struct Vectors512 : IVectors<Vector512<float>>
{
    public static int Width => 16;

    public static int TileVectors => 4;

    public static Vector512<float> Zero => Vector512<float>.Zero;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Load(float* start) => Vector512.Load(start);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadHalves(ushort* start) => (Vector512.WidenLower(Vector256.Load(start).ToVector512Unsafe()) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* start, Vector512<float> values) => values.Store(start);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Create(float value) => Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Add(Vector512<float> left, Vector512<float> right) => left + right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Subtract(Vector512<float> left, Vector512<float> right) => left - right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Multiply(Vector512<float> left, Vector512<float> right) => left * right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Divide(Vector512<float> left, Vector512<float> right) => left / right;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> MultiplyAdd(Vector512<float> left, Vector512<float> right, Vector512<float> sum) =>
        Avx512F.IsSupported ? Avx512F.FusedMultiplyAdd(left, right, sum) : Vector512.MultiplyAddEstimate(left, right, sum);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Larger(Vector512<float> left, Vector512<float> right) => Vector512.ConditionalSelect(Vector512.GreaterThan(left, right), left, right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Smaller(Vector512<float> left, Vector512<float> right) => Vector512.ConditionalSelect(Vector512.LessThan(left, right), left, right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> WhereLess(Vector512<float> left, Vector512<float> right, Vector512<float> less, Vector512<float> other) =>
        Vector512.ConditionalSelect(Vector512.LessThan(left, right), less, other);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Round(Vector512<float> values) => Vector512.Round(values);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Scale(Vector512<float> values, Vector512<float> powers)
    {
        // Two factors, because a single one could exceed the range of float32.
        var power = Vector512.ConvertToInt32Native(powers);
        var half = power >> 1;
        return values * ((half + Vector512.Create(127)) << 23).AsSingle() * ((power - half + Vector512.Create(127)) << 23).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Where(byte* shown, Vector512<float> values) =>
        Vector512.ConditionalSelect(Vector512.Equals(Vector512.WidenLower(Vector512.WidenLower(Vector128.Load(shown).ToVector256Unsafe().ToVector512Unsafe())).AsInt32(), Vector512<int>.Zero).AsSingle(), Vector512.Create(float.NegativeInfinity), values);

    public static float Sum(Vector512<float> values) => Vector512.Sum(values);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> Sums(Vector512<float> first, Vector512<float> second, Vector512<float> third, Vector512<float> fourth) =>
        Vectors256.Sums(Half(first), Half(second), Half(third), Half(fourth));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Half(Vector512<float> values) => values.GetLower() + values.GetUpper();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Largest(Vector512<float> values)
    {
        return Vectors256.Largest(Vectors256.Larger(values.GetLower(), values.GetUpper()));
    }
}
