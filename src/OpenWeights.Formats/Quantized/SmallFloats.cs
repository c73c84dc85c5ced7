namespace OpenWeights.Formats.Quantized;

/// <summary>The values of floats of a byte or less, by their bits.</summary>
public static class SmallFloats
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

    private static float Value(int bits, int mantissaBits, int bias)
    {
        var (exponent, mantissa) = ((bits & 0x7F) >> mantissaBits, bits & ((1 << mantissaBits) - 1));
        var fraction = (float)mantissa / (1 << mantissaBits);
        var size = exponent == 0 ? MathF.ScaleB(fraction, 1 - bias) : MathF.ScaleB(1 + fraction, exponent - bias);
        return (bits & 0x80) == 0 ? size : -size;
    }
}
