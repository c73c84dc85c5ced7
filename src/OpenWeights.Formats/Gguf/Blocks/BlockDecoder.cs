using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>The blocks of a <see cref="GgufType"/> to values, as ggml's <c>dequantize_row</c> functions do it
/// (<see href="https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c"/>).</summary>
public static class BlockDecoder
{
    /// <summary>Decodes whole blocks.</summary>
    /// <param name="type">The type.</param>
    /// <param name="bytes">The blocks.</param>
    /// <param name="values">Where to put the values, as many as the blocks hold.</param>
    /// <exception cref="ArgumentException">Bytes and values do not go together.</exception>
    public static void Decode(GgufType type, ReadOnlySpan<byte> bytes, Span<float> values)
    {
        var (length, size) = (type.BlockLength(), type.BlockBytes());
        if (values.Length % length != 0 || bytes.Length != type.Bytes(values.Length))
        {
            throw new ArgumentException($"{bytes.Length} bytes of {type} are not {values.Length} values", nameof(bytes));
        }

        if (length == 1)
        {
            DecodePlain(type, bytes, values);
            return;
        }

        for (var i = 0; i < values.Length / length; i++)
        {
            DecodeBlock(type, bytes.Slice(i * size, size), values.Slice(i * length, length));
        }
    }

    private static void DecodeBlock(GgufType type, ReadOnlySpan<byte> block, Span<float> values)
    {
        switch (type)
        {
            case GgufType.Q8_0:
                DecodeQ8(block, values);
                break;
            case GgufType.Q4_0:
                DecodeNibbles(block[2..], 0, HalfAt(block, 0), 8, 0, values);
                break;
            case GgufType.Q4_1:
                DecodeNibbles(block[4..], 0, HalfAt(block, 0), 0, HalfAt(block, 2), values);
                break;
            case GgufType.Q5_0:
                DecodeNibbles(block[6..], BinaryPrimitives.ReadUInt32LittleEndian(block[2..]), HalfAt(block, 0), 16, 0, values);
                break;
            case GgufType.Q5_1:
                DecodeNibbles(block[8..], BinaryPrimitives.ReadUInt32LittleEndian(block[4..]), HalfAt(block, 0), 0, HalfAt(block, 2), values);
                break;
            case GgufType.IQ4_NL:
                Iq4Nl.Decode(block, values);
                break;
            case GgufType.MXFP4:
                Mxfp4.Decode(block, values);
                break;
            case GgufType.Q2_K:
                DecodeQ2K(block, values);
                break;
            case GgufType.Q3_K:
                DecodeQ3K(block, values);
                break;
            case GgufType.Q4_K:
                DecodeQ4K(block, values);
                break;
            case GgufType.Q5_K:
                DecodeQ5K(block, values);
                break;
            case GgufType.Q6_K:
                DecodeQ6K(block, values);
                break;
            default:
                throw new NotSupportedException($"{type} cannot be read");
        }
    }

    private static void DecodePlain(GgufType type, ReadOnlySpan<byte> bytes, Span<float> values)
    {
        if (type == GgufType.F32)
        {
            bytes.CopyTo(MemoryMarshal.AsBytes(values));
            return;
        }

        var halves = MemoryMarshal.Cast<byte, ushort>(bytes);
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = type == GgufType.F16 ? (float)BitConverter.UInt16BitsToHalf(halves[i]) : BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
        }
    }

    private static float HalfAt(ReadOnlySpan<byte> block, int at) => (float)BinaryPrimitives.ReadHalfLittleEndian(block[at..]);

    private static void DecodeQ8(ReadOnlySpan<byte> block, Span<float> values)
    {
        var scale = HalfAt(block, 0);
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (sbyte)block[2 + i] * scale;
        }
    }

    /// <summary>32 nibbles, with a fifth bit each: (level - zero) scale + minimum.</summary>
    private static void DecodeNibbles(ReadOnlySpan<byte> nibbles, uint fifthBits, float scale, int zero, float minimum, Span<float> values)
    {
        for (var i = 0; i < 16; i++)
        {
            var low = (nibbles[i] & 15) | (int)(((fifthBits >> i) & 1) << 4);
            var high = (nibbles[i] >> 4) | (int)(((fifthBits >> (i + 16)) & 1) << 4);
            values[i] = ((low - zero) * scale) + minimum;
            values[i + 16] = ((high - zero) * scale) + minimum;
        }
    }

    private static void DecodeQ2K(ReadOnlySpan<byte> block, Span<float> values)
    {
        var (scale, minimum) = (HalfAt(block, 80), HalfAt(block, 82));
        for (var at = 0; at < values.Length; at++)
        {
            var packed = block[at / 16];
            var level = (block[16 + (at / 128 * 32) + (at % 32)] >> (at % 128 / 32 * 2)) & 3;
            values[at] = (scale * (packed & 15) * level) - (minimum * (packed >> 4));
        }
    }

    private static void DecodeQ3K(ReadOnlySpan<byte> block, Span<float> values)
    {
        var scale = HalfAt(block, 108);
        var packed = block.Slice(96, 12);
        for (var at = 0; at < values.Length; at++)
        {
            var group = at / 16;
            var low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
            var high = (packed[8 + (group % 4)] >> (group / 4 * 2)) & 3;
            var level = (block[32 + (at / 128 * 32) + (at % 32)] >> (at % 128 / 32 * 2)) & 3;
            var third = (block[at % 32] >> (at / 32)) & 1;
            values[at] = scale * ((low | (high << 4)) - 32) * (level - (third == 0 ? 4 : 0));
        }
    }

    private static void DecodeQ4K(ReadOnlySpan<byte> block, Span<float> values)
    {
        var (scale, minimum) = (HalfAt(block, 0), HalfAt(block, 2));
        for (var group = 0; group < 8; group++)
        {
            var (s, m) = KScales.Unpack(block.Slice(4, 12), group);
            var (d, offset) = (scale * s, minimum * m);
            var from = block.Slice(16 + (group / 2 * 32), 32);
            for (var i = 0; i < 32; i++)
            {
                values[(group * 32) + i] = (d * ((from[i] >> (group % 2 * 4)) & 15)) - offset;
            }
        }
    }

    private static void DecodeQ5K(ReadOnlySpan<byte> block, Span<float> values)
    {
        var (scale, minimum) = (HalfAt(block, 0), HalfAt(block, 2));
        var high = block.Slice(16, 32);
        for (var group = 0; group < 8; group++)
        {
            var (s, m) = KScales.Unpack(block.Slice(4, 12), group);
            var (d, offset) = (scale * s, minimum * m);
            var from = block.Slice(48 + (group / 2 * 32), 32);
            for (var i = 0; i < 32; i++)
            {
                var level = ((from[i] >> (group % 2 * 4)) & 15) + (((high[i] >> group) & 1) * 16);
                values[(group * 32) + i] = (d * level) - offset;
            }
        }
    }

    private static void DecodeQ6K(ReadOnlySpan<byte> block, Span<float> values)
    {
        var scale = HalfAt(block, 208);
        for (var at = 0; at < values.Length; at++)
        {
            var (half, quarter, i) = (at / 128, at % 128 / 32, at % 32);
            var low = block[(half * 64) + (quarter % 2 * 32) + i] >> (quarter / 2 * 4);
            var high = block[128 + (half * 32) + i] >> (quarter * 2);
            var level = (low & 15) | ((high & 3) << 4);
            values[at] = scale * (sbyte)block[192 + (at / 16)] * (level - 32);
        }
    }
}

/// <summary>The 6-bit scales and minima of Q4_K and Q5_K, eight of each in twelve bytes.</summary>
internal static class KScales
{
    public static (int Scale, int Minimum) Unpack(ReadOnlySpan<byte> packed, int group) => group < 4
        ? (packed[group] & 63, packed[group + 4] & 63)
        : ((packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4), (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4));
}
