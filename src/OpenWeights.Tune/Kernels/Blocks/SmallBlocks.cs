using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels.Blocks;

/// <summary>Q4_0: 4 bits and a scale.</summary>
internal readonly unsafe struct Q40Blocks : IBlocks
{
    public static int Length => 32;

    public static int Bytes => 18;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (pairs, scale) = (Vector128.Load(block + 2), BlockVectors.Half(block));
        return new BlockLine(BlockVectors.Low(pairs), BlockVectors.High(pairs), scale, -8 * scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second)
    {
        var scale = BlockVectors.Half(block);
        BlockVectors.Nibbles(block + 2, BlockVectors.Meaning(scale, -8 * scale), out first, out second);
    }
}

/// <summary>Q4_1: 4 bits, a scale and a minimum.</summary>
internal readonly unsafe struct Q41Blocks : IBlocks
{
    public static int Length => 32;

    public static int Bytes => 20;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var pairs = Vector128.Load(block + 4);
        return new BlockLine(BlockVectors.Low(pairs), BlockVectors.High(pairs), BlockVectors.Half(block), BlockVectors.Half(block + 2));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) =>
        BlockVectors.Nibbles(block + 4, BlockVectors.Meaning(BlockVectors.Half(block), BlockVectors.Half(block + 2)), out first, out second);
}

/// <summary>Q5_0: 5 bits and a scale.</summary>
internal readonly unsafe struct Q50Blocks : IBlocks
{
    public static int Length => 32;

    public static int Bytes => 22;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (pairs, fifth, scale) = (Vector128.Load(block + 6), *(uint*)(block + 2), BlockVectors.Half(block));
        return new BlockLine(BlockVectors.Low(pairs) | BlockVectors.Sixteens((ushort)fifth), BlockVectors.High(pairs) | BlockVectors.Sixteens((ushort)(fifth >> 16)), scale, -16 * scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);
}

/// <summary>Q5_1: 5 bits, a scale and a minimum.</summary>
internal readonly unsafe struct Q51Blocks : IBlocks
{
    public static int Length => 32;

    public static int Bytes => 24;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (pairs, fifth) = (Vector128.Load(block + 8), *(uint*)(block + 4));
        return new BlockLine(
            BlockVectors.Low(pairs) | BlockVectors.Sixteens((ushort)fifth), BlockVectors.High(pairs) | BlockVectors.Sixteens((ushort)(fifth >> 16)), BlockVectors.Half(block), BlockVectors.Half(block + 2));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) => BlockVectors.Values(Read(block, line), out first, out second);
}

/// <summary>Q8_0: signed bytes and a scale.</summary>
internal readonly unsafe struct Q80Blocks : IBlocks
{
    public static int Length => 32;

    public static int Bytes => 34;

    // The bytes are shifted to be unsigned.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (scale, sign) = (BlockVectors.Half(block), Vector128.Create((byte)128));
        return new BlockLine(Vector128.Load(block + 2) ^ sign, Vector128.Load(block + 18) ^ sign, scale, -128 * scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second)
    {
        var scale = Vector512.Create(BlockVectors.Half(block));
        first = Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)block + 2))) * scale;
        second = Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)block + 18))) * scale;
    }
}

/// <summary>IQ4_NL: 4 bits for values that lie closer together near zero, and a scale.</summary>
internal readonly unsafe struct Iq4NlBlocks : IBlocks
{
    // What is added to the values so that they are not negative.
    private const float Raised = 127;

    public static int Length => 32;

    public static int Bytes => 18;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (pairs, scale) = (Vector128.Load(block + 2), BlockVectors.Half(block));
        var raised = Vector128.Create((byte)0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240);
        return new BlockLine(Vector128.Shuffle(raised, BlockVectors.Low(pairs)), Vector128.Shuffle(raised, BlockVectors.High(pairs)), scale, -Raised * scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) =>
        BlockVectors.Nibbles(block + 2, Vector512.Create(-127f, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113) * Vector512.Create(BlockVectors.Half(block)), out first, out second);
}

/// <summary>MXFP4: floats of 4 bits and a power of two.</summary>
internal readonly unsafe struct Mxfp4Blocks : IBlocks
{
    // Twice the largest magnitude: what is added to twice the values so that they are whole and not negative.
    private const float Largest = 12;

    public static int Length => 32;

    public static int Bytes => 17;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static BlockLine Read(byte* block, int line)
    {
        var (pairs, scale) = (Vector128.Load(block + 1), HalfScale(block[0]));
        var raised = Vector128.Create((byte)12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
        return new BlockLine(Vector128.Shuffle(raised, BlockVectors.Low(pairs)), Vector128.Shuffle(raised, BlockVectors.High(pairs)), scale, -Largest * scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Values(byte* block, int line, out Vector512<float> first, out Vector512<float> second) =>
        BlockVectors.Nibbles(block + 1, Vector512.Create(0f, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12) * Vector512.Create(HalfScale(block[0])), out first, out second);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float HalfScale(byte exponent) => BitConverter.UInt32BitsToSingle(exponent < 2 ? 0x00200000u << exponent : (uint)(exponent - 1) << 23);
}
