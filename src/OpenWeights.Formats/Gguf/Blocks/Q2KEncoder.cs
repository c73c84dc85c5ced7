using System.Buffers.Binary;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>ggml's <c>quantize_row_q2_K_ref</c>: 256 values in 16 groups, each with a scale and a minimum of four bits.</summary>
internal static class Q2KEncoder
{
    private const int GroupLength = 16;
    private const int Groups = 16;
    private static readonly ScaleSearch s_search = new(Highest: 3, FirstStep: -0.5f, Steps: 15, Absolute: true);

    public static void Encode(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[Groups], minima = stackalloc float[Groups], weights = stackalloc float[GroupLength];
        Span<byte> levels = stackalloc byte[values.Length];
        var (largestScale, largestMinimum) = (0f, 0f);
        for (var group = 0; group < Groups; group++)
        {
            var own = values.Slice(group * GroupLength, GroupLength);
            for (var i = 0; i < GroupLength; i++)
            {
                weights[i] = Math.Abs(own[i]);
            }

            scales[group] = s_search.Find(own, weights, levels.Slice(group * GroupLength, GroupLength), out minima[group]);
            largestScale = scales[group] > largestScale ? scales[group] : largestScale;
            largestMinimum = minima[group] > largestMinimum ? minima[group] : largestMinimum;
        }

        var (scale, minimum) = ((Half)(largestScale / 15f), (Half)(largestMinimum / 15f));
        BinaryPrimitives.WriteHalfLittleEndian(block[80..], scale);
        BinaryPrimitives.WriteHalfLittleEndian(block[82..], minimum);
        var (inverseScale, inverseMinimum) = (largestScale > 0 ? 15f / largestScale : 0f, largestMinimum > 0 ? 15f / largestMinimum : 0f);
        for (var group = 0; group < Groups; group++)
        {
            block[group] = (byte)((byte)Rounding.Nearest(inverseScale * scales[group]) | (Rounding.Nearest(inverseMinimum * minima[group]) << 4));
            Requantise(values.Slice(group * GroupLength, GroupLength), (float)scale * (block[group] & 15), (float)minimum * (block[group] >> 4), levels.Slice(group * GroupLength, GroupLength));
        }

        TwoBits.Pack(levels, block.Slice(16, 64));
    }

    private static void Requantise(ReadOnlySpan<float> values, float scale, float minimum, Span<byte> levels)
    {
        if (scale == 0)
        {
            return;
        }

        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)Math.Clamp(Rounding.Nearest((values[i] + minimum) / scale), 0, 3);
        }
    }
}

/// <summary>The lowest two bits of 256 levels, four of them in a byte.</summary>
internal static class TwoBits
{
    internal static void Pack(ReadOnlySpan<byte> levels, Span<byte> packed)
    {
        for (var i = 0; i < packed.Length; i++)
        {
            var at = (i / 32 * 128) + (i % 32);
            packed[i] = (byte)((levels[at] & 3) | ((levels[at + 32] & 3) << 2) | ((levels[at + 64] & 3) << 4) | ((levels[at + 96] & 3) << 6));
        }
    }
}
