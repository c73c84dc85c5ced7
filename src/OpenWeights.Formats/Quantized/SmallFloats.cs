namespace OpenWeights.Formats.Quantized;

/// <summary>The values of floats of a byte or less, by their bits.</summary>
internal static class SmallFloats
{
    /// <summary>E2M1, the 4-bit float of the OCP microscaling formats: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.</summary>
    public static float[] E2M1 { get; } = [0f, 0.5f, 1f, 1.5f, 2f, 3f, 4f, 6f, -0f, -0.5f, -1f, -1.5f, -2f, -3f, -4f, -6f];

    /// <summary>E4M3 without infinities (F8_E4M3 of safetensors).</summary>
    public static float[] E4M3 { get; } = [.. Enumerable.Range(0, 256).Select(static bits => (bits & 0x7F) == 0x7F ? float.NaN : Value(bits, mantissaBits: 3, bias: 7))];

    /// <summary>E5M2 (F8_E5M2 of safetensors).</summary>
    public static float[] E5M2 { get; } = [.. Enumerable.Range(0, 256).Select(static bits => (bits & 0x7C) != 0x7C ? Value(bits, mantissaBits: 2, bias: 15) : (bits & 3) != 0 ? float.NaN : (bits & 0x80) == 0 ? float.PositiveInfinity : float.NegativeInfinity)];

    /// <summary>E8M0, the power-of-two scale of the OCP microscaling formats.</summary>
    public static float[] E8M0 { get; } = [.. Enumerable.Range(0, 256).Select(static bits => bits == 255 ? float.NaN : MathF.ScaleB(1, bits - 127))];

    /// <summary>Signed bytes.</summary>
    public static float[] SignedBytes { get; } = [.. Enumerable.Range(0, 256).Select(static bits => (float)(sbyte)bits)];

    /// <summary>The nearest E4M3 number, ties to even; beyond the largest, that.</summary>
    /// <param name="value">The value.</param>
    public static byte ToE4M3(float value)
    {
        var (sign, size) = (float.IsNegative(value) ? 0x80 : 0, Math.Abs(value));
        if (!(size < 464))
        {
            return (byte)(sign | (float.IsNaN(value) ? 0x7F : 0x7E));
        }

        // Below the smallest normal number, steps of 2^-9.
        if (size < 1f / 64)
        {
            return (byte)(sign | (int)MathF.Round(size * 512));
        }

        var bits = BitConverter.SingleToUInt32Bits(size);
        bits += 0x7FFFFu + ((bits >> 20) & 1);
        return (byte)(sign | Math.Min(0x7E, (int)((bits >> 20) - ((127 - 7) << 3))));
    }

    /// <summary>The nearest E2M1 number, ties to even; beyond the largest, that.</summary>
    /// <param name="value">The value.</param>
    public static byte ToE2M1(float value)
    {
        var size = Math.Abs(value);
        var code = size <= 0.25f ? 0 : size < 0.75f ? 1 : size <= 1.25f ? 2 : size < 1.75f ? 3 : size <= 2.5f ? 4 : size < 3.5f ? 5 : size <= 5 ? 6 : 7;
        return (byte)(code | (float.IsNegative(value) ? 8 : 0));
    }

    private static float Value(int bits, int mantissaBits, int bias)
    {
        var (exponent, mantissa) = ((bits & 0x7F) >> mantissaBits, bits & ((1 << mantissaBits) - 1));
        var fraction = (float)mantissa / (1 << mantissaBits);
        var size = exponent == 0 ? MathF.ScaleB(fraction, 1 - bias) : MathF.ScaleB(1 + fraction, exponent - bias);
        return (bits & 0x80) == 0 ? size : -size;
    }
}
