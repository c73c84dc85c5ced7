using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>
/// Values to the blocks of a <see cref="GgufType"/>, bit for bit as ggml's reference quantisers do it
/// (<see href="https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c"/>, the <c>_ref</c> functions).
/// </summary>
public static class BlockEncoder
{
    /// <summary>Whether values can be written in this type (others can only be read).</summary>
    /// <param name="type">The type.</param>
    public static bool Supports(GgufType type) =>
        type is GgufType.F32 or GgufType.F16 or GgufType.BF16 or GgufType.Q8_0 or GgufType.Q4_0 or GgufType.Q4_1 or GgufType.Q5_0 or GgufType.Q5_1 or GgufType.Q2_K or GgufType.Q3_K
            or GgufType.Q4_K or GgufType.Q5_K or GgufType.Q6_K or GgufType.MXFP4;

    /// <summary>Encodes whole blocks.</summary>
    /// <param name="type">The type.</param>
    /// <param name="values">The values; their number is a multiple of the type's block.</param>
    /// <param name="bytes">Where to put the blocks, as many bytes as they need.</param>
    /// <exception cref="ArgumentException">The values fill no whole blocks, or the bytes are not as many as they need.</exception>
    /// <exception cref="NotSupportedException">The type can only be read.</exception>
    public static void Encode(GgufType type, ReadOnlySpan<float> values, Span<byte> bytes)
    {
        var (length, size) = (type.BlockLength(), type.BlockBytes());
        if (values.Length % length != 0 || bytes.Length != type.Bytes(values.Length))
        {
            throw new ArgumentException($"{values.Length} values are no whole {type} blocks of {length}, or do not fill {bytes.Length} bytes", nameof(values));
        }

        if (type == GgufType.F32)
        {
            MemoryMarshal.AsBytes(values).CopyTo(bytes);
            return;
        }

        if (type is GgufType.F16 or GgufType.BF16)
        {
            EncodeHalves(type, values, MemoryMarshal.Cast<byte, ushort>(bytes));
            return;
        }

        for (var i = 0; i < values.Length / length; i++)
        {
            EncodeBlock(type, values.Slice(i * length, length), bytes.Slice(i * size, size));
        }
    }

    private static void EncodeBlock(GgufType type, ReadOnlySpan<float> values, Span<byte> block)
    {
        switch (type)
        {
            case GgufType.Q8_0:
                EncodeQ8(values, block);
                break;
            case GgufType.Q4_0:
                EncodeQ4(values, block);
                break;
            case GgufType.Q4_1:
                EncodeQ4WithMinimum(values, block);
                break;
            case GgufType.Q5_0:
                EncodeQ5(values, block);
                break;
            case GgufType.Q5_1:
                EncodeQ5WithMinimum(values, block);
                break;
            case GgufType.MXFP4:
                Mxfp4.Encode(values, block);
                break;
            case GgufType.Q2_K:
                Q2KEncoder.Encode(values, block);
                break;
            case GgufType.Q3_K:
                Q3KEncoder.Encode(values, block);
                break;
            case GgufType.Q4_K:
                GroupEncoder.Q4K.Encode(values, block);
                break;
            case GgufType.Q5_K:
                GroupEncoder.Q5K.Encode(values, block);
                break;
            case GgufType.Q6_K:
                Q6KEncoder.Encode(values, block);
                break;
            default:
                throw new NotSupportedException($"{type} can be read and not written");
        }
    }

    private static void EncodeHalves(GgufType type, ReadOnlySpan<float> values, Span<ushort> halves)
    {
        for (var i = 0; i < values.Length; i++)
        {
            halves[i] = type == GgufType.F16 ? BitConverter.HalfToUInt16Bits((Half)values[i]) : ToBFloat16(values[i]);
        }
    }

    /// <summary>Rounds to nearest even; a NaN stays one.</summary>
    private static ushort ToBFloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)((bits >> 16) | 64) : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    private static void EncodeQ8(ReadOnlySpan<float> values, Span<byte> block)
    {
        var largest = 0f;
        foreach (var value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        // The inverse is of the scale before it is rounded to half precision.
        var scale = largest / 127;
        var inverse = scale != 0 ? 1 / scale : 0;
        BinaryPrimitives.WriteHalfLittleEndian(block, (Half)scale);
        for (var i = 0; i < values.Length; i++)
        {
            block[2 + i] = (byte)(sbyte)MathF.Round(values[i] * inverse, MidpointRounding.AwayFromZero);
        }
    }

    private static void EncodeQ4(ReadOnlySpan<float> values, Span<byte> block)
    {
        var scale = SignedLargest(values) / -8;
        var inverse = scale != 0 ? 1 / scale : 0;
        BinaryPrimitives.WriteHalfLittleEndian(block, (Half)scale);
        for (var i = 0; i < 16; i++)
        {
            var low = Math.Min(15, (int)((values[i] * inverse) + 8.5f));
            var high = Math.Min(15, (int)((values[i + 16] * inverse) + 8.5f));
            block[2 + i] = (byte)(low | (high << 4));
        }
    }

    private static void EncodeQ4WithMinimum(ReadOnlySpan<float> values, Span<byte> block)
    {
        var (least, most) = Range(values);
        var scale = (most - least) / 15;
        var inverse = scale != 0 ? 1 / scale : 0;
        BinaryPrimitives.WriteHalfLittleEndian(block, (Half)scale);
        BinaryPrimitives.WriteHalfLittleEndian(block[2..], (Half)least);
        for (var i = 0; i < 16; i++)
        {
            var low = Math.Min(15, (int)(((values[i] - least) * inverse) + 0.5f));
            var high = Math.Min(15, (int)(((values[i + 16] - least) * inverse) + 0.5f));
            block[4 + i] = (byte)(low | (high << 4));
        }
    }

    private static void EncodeQ5(ReadOnlySpan<float> values, Span<byte> block)
    {
        var scale = SignedLargest(values) / -16;
        var inverse = scale != 0 ? 1 / scale : 0;
        BinaryPrimitives.WriteHalfLittleEndian(block, (Half)scale);
        Span<byte> levels = stackalloc byte[values.Length];
        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)Math.Min(31, (int)((values[i] * inverse) + 16.5f));
        }

        PackFiveBits(levels, block[2..]);
    }

    private static void EncodeQ5WithMinimum(ReadOnlySpan<float> values, Span<byte> block)
    {
        var (least, most) = Range(values);
        var scale = (most - least) / 31;
        var inverse = scale != 0 ? 1 / scale : 0;
        BinaryPrimitives.WriteHalfLittleEndian(block, (Half)scale);
        BinaryPrimitives.WriteHalfLittleEndian(block[2..], (Half)least);
        Span<byte> levels = stackalloc byte[values.Length];
        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)(((values[i] - least) * inverse) + 0.5f);
        }

        PackFiveBits(levels, block[4..]);
    }

    /// <summary>The fifth bits of 32 levels, and then their lower four bits, two in a byte.</summary>
    private static void PackFiveBits(ReadOnlySpan<byte> levels, Span<byte> packed)
    {
        var fifthBits = 0u;
        for (var i = 0; i < 16; i++)
        {
            packed[4 + i] = (byte)((levels[i] & 15) | ((levels[i + 16] & 15) << 4));
            fifthBits |= ((uint)(levels[i] >> 4) << i) | ((uint)(levels[i + 16] >> 4) << (i + 16));
        }

        BinaryPrimitives.WriteUInt32LittleEndian(packed, fifthBits);
    }

    private static (float Least, float Most) Range(ReadOnlySpan<float> values)
    {
        var (least, most) = (float.MaxValue, -float.MaxValue);
        foreach (var value in values)
        {
            least = value < least ? value : least;
            most = value > most ? value : most;
        }

        return (least, most);
    }

    /// <summary>The value of the largest magnitude, the first of equal ones, with its sign.</summary>
    private static float SignedLargest(ReadOnlySpan<float> values)
    {
        var (magnitude, signed) = (0f, 0f);
        foreach (var value in values)
        {
            if (Math.Abs(value) > magnitude)
            {
                (magnitude, signed) = (Math.Abs(value), value);
            }
        }

        return signed;
    }
}

/// <summary>Rounding as ggml's quantisers do it.</summary>
internal static class Rounding
{
    /// <summary>Threshold below which a value counts as zero.</summary>
    public const float Nothing = 1e-15f;

    /// <summary>The nearest whole number, halves to even, of values below 2^22.</summary>
    public static int Nearest(float value) => (BitConverter.SingleToInt32Bits(value + 12582912f) & 0x007fffff) - 0x00400000;
}
