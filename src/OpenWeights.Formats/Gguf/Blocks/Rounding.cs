namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>Rounding as ggml's quantisers do it.</summary>
internal static class Rounding
{
    /// <summary>What is taken for zero.</summary>
    public const float Nothing = 1e-15f;

    /// <summary>The nearest whole number, halves to even, of values below 2^22.</summary>
    public static int Nearest(float value) => (BitConverter.SingleToInt32Bits(value + 12582912f) & 0x007fffff) - 0x00400000;
}
