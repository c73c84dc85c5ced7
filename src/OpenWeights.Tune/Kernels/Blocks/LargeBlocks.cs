using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels.Blocks;

/// <summary>Q2_K: 2 bits, and for each 16 values a scale and a minimum of 4 bits.</summary>
internal readonly unsafe struct Q2KBlocks : IBlocks
{
    public static int Length => 256;

    public static int Bytes => 84;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var from = block + 16 + (line / 4 * 32);
        var shift = line % 4 * 2;
        var (scale, minimum) = (BlockVectors.Half(block + 80), BlockVectors.Half(block + 82));
        var (own, other) = (block[2 * line], block[(2 * line) + 1]);
        return new BlockLine(
            BlockVectors.Bits(Vector128.Load(from), shift, 3, 0), BlockVectors.Bits(Vector128.Load(from + 16), shift, 3, 0),
            scale * (own & 15), -minimum * (own >> 4), scale * (other & 15), -minimum * (other >> 4));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);
}

/// <summary>Q3_K: 3 bits, and for each 16 values a scale of 6 bits.</summary>
internal readonly unsafe struct Q3KBlocks : IBlocks
{
    public static int Length => 256;

    public static int Bytes => 110;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var from = block + 32 + (line / 4 * 32);
        var (shift, scale) = (line % 4 * 2, BlockVectors.Half(block + 108));
        var (own, other) = (scale * Scale(block + 96, 2 * line), scale * Scale(block + 96, (2 * line) + 1));
        var first = BlockVectors.Bits(Vector128.Load(from), shift, 3, 0) | BlockVectors.Bits(Vector128.Load(block), line, 1, 2);
        var second = BlockVectors.Bits(Vector128.Load(from + 16), shift, 3, 0) | BlockVectors.Bits(Vector128.Load(block + 16), line, 1, 2);
        return new BlockLine(first, second, own, -4 * own, other, -4 * other);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Scale(byte* packed, int group)
    {
        var low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
        return (low | (((packed[8 + (group % 4)] >> (group / 4 * 2)) & 3) << 4)) - 32;
    }
}

/// <summary>Q4_K: 4 bits, and for each 32 values a scale and a minimum of 6 bits.</summary>
internal readonly unsafe struct Q4KBlocks : IBlocks
{
    public static int Length => 256;

    public static int Bytes => 144;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var from = block + 16 + (line / 2 * 32);
        var (shift, scales) = (line % 2 * 4, SixBitScales.Of(block, line));
        return new BlockLine(BlockVectors.Bits(Vector128.Load(from), shift, 15, 0), BlockVectors.Bits(Vector128.Load(from + 16), shift, 15, 0), scales.Scale, scales.Offset);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second)
    {
        var from = block + 16 + (line / 2 * 32);
        var (shift, scales) = (line % 2 * 4, SixBitScales.Of(block, line));
        var meaning = BlockVectors.Meaning(scales.Scale, scales.Offset);
        first = Avx512F.PermuteVar16x32(meaning, Avx512F.ConvertToVector512Int32(Vector128.Load(from)) >>> shift);
        second = Avx512F.PermuteVar16x32(meaning, Avx512F.ConvertToVector512Int32(Vector128.Load(from + 16)) >>> shift);
    }
}

/// <summary>Q5_K: 5 bits, and for each 32 values a scale and a minimum of 6 bits.</summary>
internal readonly unsafe struct Q5KBlocks : IBlocks
{
    public static int Length => 256;

    public static int Bytes => 176;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var from = block + 48 + (line / 2 * 32);
        var (shift, scales) = (line % 2 * 4, SixBitScales.Of(block, line));
        var first = BlockVectors.Bits(Vector128.Load(from), shift, 15, 0) | BlockVectors.Bits(Vector128.Load(block + 16), line, 1, 4);
        var second = BlockVectors.Bits(Vector128.Load(from + 16), shift, 15, 0) | BlockVectors.Bits(Vector128.Load(block + 32), line, 1, 4);
        return new BlockLine(first, second, scales.Scale, scales.Offset);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);
}

/// <summary>Q6_K: 6 bits, and for each 16 values a scale of 8 bits.</summary>
internal readonly unsafe struct Q6KBlocks : IBlocks
{
    public static int Length => 256;

    public static int Bytes => 210;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (half, quarter, scale) = (line / 4, line % 4, BlockVectors.Half(block + 208));
        byte* low = block + (half * 64) + (quarter % 2 * 32), high = block + 128 + (half * 32);
        var first = BlockVectors.Bits(Vector128.Load(low), quarter / 2 * 4, 15, 0) | BlockVectors.Bits(Vector128.Load(high), quarter * 2, 3, 4);
        var second = BlockVectors.Bits(Vector128.Load(low + 16), quarter / 2 * 4, 15, 0) | BlockVectors.Bits(Vector128.Load(high + 16), quarter * 2, 3, 4);
        var (own, other) = (scale * (sbyte)block[192 + (2 * line)], scale * (sbyte)block[193 + (2 * line)]);
        return new BlockLine(first, second, own, -32 * own, other, -32 * other);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);
}

/// <summary>The scales and minima of 6 bits in Q4_K and Q5_K, eight of each in twelve bytes.</summary>
internal static unsafe class SixBitScales
{
    /// <summary>Scale of a line, and what is added to it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (float Scale, float Offset) Of(byte* block, int line)
    {
        var packed = block + 4;
        var (scale, minimum) = line < 4
            ? (packed[line] & 63, packed[line + 4] & 63)
            : ((packed[line + 4] & 15) | ((packed[line - 4] >> 6) << 4), (packed[line + 4] >> 4) | ((packed[line] >> 6) << 4));
        return (BlockVectors.Half(block) * scale, -(BlockVectors.Half(block + 2) * minimum));
    }
}
