using System.Buffers.Binary;
using System.Runtime.InteropServices;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Quantized;

/// <summary>Changes the order of packed codes to that of <see cref="PackedMatrix"/>.</summary>
internal static class CodeLayout
{
    // Where AWQ keeps the column c of each eight: it packs the columns 0 2 4 6 1 3 5 7.
    private static readonly int[] AwqPlaces = [0, 4, 1, 5, 2, 6, 3, 7];

    /// <summary>Exchanges the two codes of each byte.</summary>
    public static void SwapNibbles(Span<byte> codes)
    {
        foreach (ref var pair in codes)
        {
            pair = (byte)((pair >> 4) | (pair << 4));
        }
    }

    /// <summary>Transposes a matrix of elements of some bytes.</summary>
    /// <param name="bytes">The matrix, [rows, columns].</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <returns>The matrix, [columns, rows].</returns>
    public static byte[] Transposed(byte[] bytes, long rows, long columns)
    {
        var result = new byte[bytes.LongLength];
        var size = (int)(bytes.LongLength / (rows * columns));
        _ = Parallel.For(0, (columns + 63) / 64, part =>
        {
            var end = Math.Min(columns, (part + 1) * 64);
            for (long row = 0; row < rows; row++)
            {
                for (var column = part * 64; column < end; column++)
                {
                    bytes.AsSpan(checked((int)(((row * columns) + column) * size)), size).CopyTo(result.AsSpan(checked((int)(((column * rows) + row) * size))));
                }
            }
        });
        return result;
    }

    /// <summary>Transposes a matrix of 32-bit words, each of which holds codes of a column: GPTQ's codes become rows that follow on.</summary>
    /// <param name="bytes">The words, [rows, columns].</param>
    /// <param name="columns">Columns.</param>
    public static byte[] TransposedWords(byte[] bytes, long columns)
    {
        var result = new byte[bytes.LongLength];
        var rows = bytes.LongLength / 4 / columns;
        _ = Parallel.For(0, (columns + 15) / 16, part =>
        {
            var from = MemoryMarshal.Cast<byte, uint>(bytes.AsSpan());
            var to = MemoryMarshal.Cast<byte, uint>(result.AsSpan());
            var end = (int)Math.Min(columns, (part + 1) * 16);
            for (var row = 0; row < (int)rows; row++)
            {
                for (var column = (int)part * 16; column < end; column++)
                {
                    to[(int)((column * rows) + row)] = from[(int)((row * columns) + column)];
                }
            }
        });
        return result;
    }

    /// <summary>AWQ's codes, [in, out / 8] words of eight columns each, as rows of outputs, [out, in / 2] bytes.</summary>
    /// <param name="bytes">The words.</param>
    /// <param name="outputs">Number of outputs, a multiple of 8.</param>
    public static byte[] OfAwq(byte[] bytes, long outputs)
    {
        var words = outputs / 8;
        var inputs = bytes.LongLength / 4 / words;
        var rowBytes = (inputs + 1) / 2;
        var result = new byte[outputs * rowBytes];
        _ = Parallel.For(0, words, word =>
        {
            var from = MemoryMarshal.Cast<byte, uint>(bytes.AsSpan());
            for (long input = 0; input < inputs; input++)
            {
                var codes = from[(int)((input * words) + word)];
                var shift = (int)(input & 1) * 4;
                for (var column = 0; column < 8; column++)
                {
                    var code = (codes >> (4 * AwqPlaces[column])) & 15;
                    result[(((word * 8) + column) * rowBytes) + (input >> 1)] |= (byte)(code << shift);
                }
            }
        });
        return result;
    }

    /// <summary>AWQ's zeros, [groups, out / 8] words, as bytes [out, groups].</summary>
    public static byte[] ZerosOfAwq(byte[] bytes, long outputs)
    {
        var packed = OfAwq(bytes, outputs);
        var groups = bytes.LongLength / 4 / (outputs / 8);
        var rowBytes = packed.LongLength / outputs;
        var zeros = new byte[outputs * groups];
        for (long output = 0; output < outputs; output++)
        {
            for (long group = 0; group < groups; group++)
            {
                zeros[(output * groups) + group] = (byte)((packed[(output * rowBytes) + (group >> 1)] >> ((int)(group & 1) * 4)) & 15);
            }
        }

        return zeros;
    }

    /// <summary>Codes one after the other, the first in the lowest bits, as a byte each.</summary>
    /// <param name="bytes">The packed codes.</param>
    /// <param name="bits">Bits of a code.</param>
    /// <param name="codes">Receives the codes.</param>
    public static void Unpack(ReadOnlySpan<byte> bytes, int bits, Span<byte> codes)
    {
        var mask = (1 << bits) - 1;
        for (var i = 0; i < codes.Length; i++)
        {
            var bit = i * bits;
            var at = bit >> 3;
            var window = bytes[at] | (at + 1 < bytes.Length ? bytes[at + 1] << 8 : 0);
            codes[i] = (byte)((window >> (bit & 7)) & mask);
        }
    }

    /// <summary>Rows of 32-bit words with as many codes as fit into each, without the bits that are left over.</summary>
    /// <param name="bytes">The words, row by row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="columns">Codes of a row.</param>
    /// <param name="bits">Bits of a code.</param>
    /// <returns>Rows that begin at a byte.</returns>
    public static byte[] WithoutGaps(byte[] bytes, long rows, long columns, int bits)
    {
        var (perWord, words, rowBytes) = (32 / bits, bytes.LongLength / 4 / rows, ((columns * bits) + 7) / 8);
        var result = new byte[rows * rowBytes];
        _ = Parallel.For(0, rows, row =>
        {
            for (long column = 0; column < columns; column++)
            {
                var word = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(checked((int)(((row * words) + (column / perWord)) * 4))));
                var code = (word >> (int)(column % perWord * bits)) & ((1u << bits) - 1);
                var bit = column * bits;
                var (at, shift) = ((row * rowBytes) + (bit >> 3), (int)(bit & 7));
                result[at] |= (byte)(code << shift);
                if (shift + bits > 8)
                {
                    result[at + 1] |= (byte)(code >> (8 - shift));
                }
            }
        });
        return result;
    }

    /// <summary>Numbers of a floating-point type as float32.</summary>
    public static IEnumerable<float> Singles(byte[] bytes, DType type)
    {
        var size = type.BitSize() / 8;
        for (var at = 0; at < bytes.Length; at += size)
        {
            yield return type switch
            {
                DType.F32 => BinaryPrimitives.ReadSingleLittleEndian(bytes.AsSpan(at)),
                DType.F16 => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes.AsSpan(at)),
                DType.BF16 => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(at)) << 16),
                DType.F64 => (float)BinaryPrimitives.ReadDoubleLittleEndian(bytes.AsSpan(at)),
                _ => throw new InvalidDataException($"numbers of type {type} are not read as float32"),
            };
        }
    }

    /// <summary>32-bit integers.</summary>
    public static int[] Integers(byte[] bytes) => MemoryMarshal.Cast<byte, int>(bytes.AsSpan()).ToArray();
}
