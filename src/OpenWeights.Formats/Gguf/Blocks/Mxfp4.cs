namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>
/// Blocks of MXFP4 (Rouhani et al., Microscaling Data Formats, 2023): an exponent of two with an offset of 127, and 32 floats of one sign,
/// two exponent and one mantissa bit, value i in the lower and value i + 16 in the upper half of byte i.
/// </summary>
internal static class Mxfp4
{
    // Twice the eight magnitudes, with both signs; ggml halves the scale instead.
    private static readonly float[] Doubled = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

    // The exponent of the largest magnitude, 6.
    private const int LargestExponent = 2;

    /// <summary>Decodes a block.</summary>
    internal static void Decode(ReadOnlySpan<byte> block, Span<float> values)
    {
        var scale = HalfScale(block[0]);
        for (var i = 0; i < 16; i++)
        {
            values[i] = Doubled[block[1 + i] & 15] * scale;
            values[i + 16] = Doubled[block[1 + i] >> 4] * scale;
        }
    }

    /// <summary>Encodes a block.</summary>
    internal static void Encode(ReadOnlySpan<float> values, Span<byte> block)
    {
        var largest = 0f;
        foreach (var value in values)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        block[0] = largest > 0 ? (byte)(int)(MathF.Floor(MathF.Log2(largest)) - LargestExponent + 127) : (byte)0;
        var scale = HalfScale(block[0]);
        for (var i = 0; i < 16; i++)
        {
            block[1 + i] = (byte)(Nearest(values[i], scale) | (Nearest(values[i + 16], scale) << 4));
        }
    }

    private static float HalfScale(byte exponent) => BitConverter.UInt32BitsToSingle(exponent < 2 ? 0x00200000u << exponent : (uint)(exponent - 1) << 23);

    // The first of the nearest.
    private static int Nearest(float value, float scale)
    {
        var (best, least) = (0, MathF.Abs(value));
        for (var i = 1; i < Doubled.Length; i++)
        {
            var error = MathF.Abs((Doubled[i] * scale) - value);
            (best, least) = error < least ? (i, error) : (best, least);
        }

        return best;
    }
}
