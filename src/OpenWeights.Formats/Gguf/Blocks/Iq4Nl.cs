using System.Buffers.Binary;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>
/// Blocks of IQ4_NL: a scale and 32 codes of 4 bits for 16 values that lie closer together near zero, code i in the lower and code i + 16 in the
/// upper half of byte i. They are read and not written.
/// </summary>
internal static class Iq4Nl
{
    private const int Length = 32;

    private static readonly sbyte[] Values = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

    /// <summary>Decodes a block.</summary>
    internal static void Decode(ReadOnlySpan<byte> block, Span<float> values)
    {
        var scale = (float)BinaryPrimitives.ReadHalfLittleEndian(block);
        for (var i = 0; i < Length / 2; i++)
        {
            values[i] = scale * Values[block[2 + i] & 15];
            values[i + (Length / 2)] = scale * Values[block[2 + i] >> 4];
        }
    }
}
