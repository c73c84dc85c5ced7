namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>The 6-bit scales and minima of Q4_K and Q5_K, eight of each in twelve bytes.</summary>
internal static class KScales
{
    public static (int Scale, int Minimum) Unpack(ReadOnlySpan<byte> packed, int group) => group < 4
        ? (packed[group] & 63, packed[group + 4] & 63)
        : ((packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4), (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4));
}
