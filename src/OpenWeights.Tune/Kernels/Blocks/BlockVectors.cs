using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels.Blocks;

/// <summary>Common parts of the block types.</summary>
internal static unsafe class BlockVectors
{
    /// <summary>A half-precision number that is a scale: finite, so that two instructions on integers and one product do.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static float Half(byte* place)
    {
        var bits = (int)*(short*)place;
        var magnitude = BitConverter.Int32BitsToSingle((bits & 0x7FFF) << 13) * 5.192296858534828e33f;
        return BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(magnitude) | (bits & int.MinValue));
    }

    /// <summary>The lower four bits of bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<byte> Low(Vector128<byte> pairs) => pairs & Vector128.Create((byte)15);

    /// <summary>The upper four bits of bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<byte> High(Vector128<byte> pairs) => Shifted(pairs, 4) & Vector128.Create((byte)15);

    /// <summary>Bytes shifted to the right; the upper bits are those of the neighbours.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<byte> Shifted(Vector128<byte> bytes, int bits) => (bytes.AsUInt16() >>> bits).AsByte();

    /// <summary>Some bits of bytes, moved to another place.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="from">Lowest bit.</param>
    /// <param name="mask">The bits, where they begin at the lowest.</param>
    /// <param name="to">Where the lowest goes.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<byte> Bits(Vector128<byte> bytes, int from, byte mask, int to) => ((Shifted(bytes, from) & Vector128.Create(mask)).AsUInt16() << to).AsByte();

    /// <summary>A byte of 0 or 16 for each of 16 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector128<byte> Sixteens(ushort bits)
    {
        var spread = Vector128.Create(Vector64.Create((byte)bits), Vector64.Create((byte)(bits >> 8)));
        var own = Vector128.Create(1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128);
        return Vector128.Equals(spread & own, own) & Vector128.Create((byte)16);
    }

    /// <summary>The values of a line whose codes are converted to floats.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Values(in BlockLine line, out Vector512<float> first, out Vector512<float> second)
    {
        first = Vectors512.MultiplyAdd(Wide(line.First), Vector512.Create(line.Scale), Vector512.Create(line.Offset));
        second = Vectors512.MultiplyAdd(Wide(line.Second), Vector512.Create(line.OtherScale), Vector512.Create(line.OtherOffset));
    }

    /// <summary>Writes the values of a line, by instructions that every processor has.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Store(in BlockLine line, float* to)
    {
        Store(line.First, line.Scale, line.Offset, to);
        Store(line.Second, line.OtherScale, line.OtherOffset, to + 16);
    }

    /// <summary>The values of 16 codes, each in the lower four bits of a byte, that are looked up.</summary>
    /// <param name="pairs">The bytes.</param>
    /// <param name="meaning">Values of the codes.</param>
    /// <param name="low">The values of the lower four bits.</param>
    /// <param name="high">The values of the upper four bits.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Nibbles(byte* pairs, Vector512<float> meaning, out Vector512<float> low, out Vector512<float> high)
    {
        // The instruction looks at the lowest four bits of an index.
        var codes = Avx512F.ConvertToVector512Int32(Vector128.Load(pairs));
        low = Avx512F.PermuteVar16x32(meaning, codes);
        high = Avx512F.PermuteVar16x32(meaning, codes >>> 4);
    }

    /// <summary>What the 16 codes of four bits mean.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Meaning(float scale, float offset) =>
        Vectors512.MultiplyAdd(Vector512.Create(0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), Vector512.Create(scale), Vector512.Create(offset));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Wide(Vector128<byte> codes) => Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(codes));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector128<byte> codes, float scale, float offset, float* to)
    {
        var (low, high) = Vector128.Widen(codes);
        Store(low, scale, offset, to);
        Store(high, scale, offset, to + 8);
    }

    // A product of a code and a scale is exact, so that it does not matter whether it is rounded before the sum.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector128<ushort> codes, float scale, float offset, float* to)
    {
        var (low, high) = Vector128.Widen(codes);
        var numbers = Vector256.ConvertToSingle(Vector256.Create(low, high).AsInt32());
        ((numbers * Vector256.Create(scale)) + Vector256.Create(offset)).Store(to);
    }
}
