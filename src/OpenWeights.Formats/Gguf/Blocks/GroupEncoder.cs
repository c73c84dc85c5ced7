using System.Buffers.Binary;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>
/// ggml's <c>quantize_row_q4_K_ref</c> and <c>quantize_row_q5_K_ref</c>: 256 values in 8 groups, whose scale and minimum are searched
/// for the least weighted error.
/// </summary>
internal sealed class GroupEncoder
{
    private const int GroupLength = 32;
    private const int Groups = 8;

    /// <summary>Four bits a value.</summary>
    public static readonly GroupEncoder Q4K = new(levels: 15, firstStep: -1f, steps: 20);

    /// <summary>Five bits a value.</summary>
    public static readonly GroupEncoder Q5K = new(levels: 31, firstStep: -0.5f, steps: 15);

    private readonly int highest;
    private readonly float firstStep;
    private readonly int steps;

    private GroupEncoder(int levels, float firstStep, int steps)
    {
        highest = levels;
        this.firstStep = firstStep;
        this.steps = steps;
    }

    public void Encode(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[Groups];
        Span<float> minima = stackalloc float[Groups];
        Span<byte> levels = stackalloc byte[values.Length];
        var (largestScale, largestMinimum) = (0f, 0f);
        for (var group = 0; group < Groups; group++)
        {
            scales[group] = FindScale(values.Slice(group * GroupLength, GroupLength), levels.Slice(group * GroupLength, GroupLength), out minima[group]);
            largestScale = scales[group] > largestScale ? scales[group] : largestScale;
            largestMinimum = minima[group] > largestMinimum ? minima[group] : largestMinimum;
        }

        var (scale, minimum) = ((Half)(largestScale / 63f), (Half)(largestMinimum / 63f));
        BinaryPrimitives.WriteHalfLittleEndian(block, scale);
        BinaryPrimitives.WriteHalfLittleEndian(block[2..], minimum);
        PackScales(scales, minima, largestScale, largestMinimum, block.Slice(4, 12));
        for (var group = 0; group < Groups; group++)
        {
            var (s, m) = KScales.Unpack(block.Slice(4, 12), group);
            Requantise(values.Slice(group * GroupLength, GroupLength), (float)scale * s, (float)minimum * m, levels.Slice(group * GroupLength, GroupLength));
        }

        PackLevels(levels, block[16..]);
    }

    // The fifth bits, a bit of each byte for a group, and then the lower four of two groups in a byte.
    private void PackLevels(ReadOnlySpan<byte> levels, Span<byte> packed)
    {
        if (highest > 15)
        {
            var high = packed[..GroupLength];
            high.Clear();
            for (var at = 0; at < levels.Length; at++)
            {
                high[at % GroupLength] |= (byte)((levels[at] >> 4) << (at / GroupLength));
            }

            packed = packed[GroupLength..];
        }

        for (var i = 0; i < 128; i++)
        {
            var at = (i / 32 * 64) + (i % 32);
            packed[i] = (byte)((levels[at] & 15) | ((levels[at + 32] & 15) << 4));
        }
    }

    private static void PackScales(ReadOnlySpan<float> scales, ReadOnlySpan<float> minima, float largestScale, float largestMinimum, Span<byte> packed)
    {
        packed.Clear();
        var inverseScale = largestScale > 0 ? 63f / largestScale : 0f;
        var inverseMinimum = largestMinimum > 0 ? 63f / largestMinimum : 0f;
        for (var group = 0; group < Groups; group++)
        {
            var scale = Math.Min((byte)63, (byte)Rounding.Nearest(inverseScale * scales[group]));
            var minimum = Math.Min((byte)63, (byte)Rounding.Nearest(inverseMinimum * minima[group]));
            if (group < 4)
            {
                packed[group] = scale;
                packed[group + 4] = minimum;
            }
            else
            {
                packed[group + 4] = (byte)((scale & 15) | ((minimum & 15) << 4));
                packed[group - 4] |= (byte)((scale >> 4) << 6);
                packed[group] |= (byte)((minimum >> 4) << 6);
            }
        }
    }

    private void Requantise(ReadOnlySpan<float> values, float scale, float minimum, Span<byte> levels)
    {
        if (scale == 0)
        {
            return;
        }

        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)Math.Clamp(Rounding.Nearest((values[i] + minimum) / scale), 0, highest);
        }
    }

    private float FindScale(ReadOnlySpan<float> values, Span<byte> levels, out float minimum)
    {
        Span<float> weights = stackalloc float[GroupLength];
        Weigh(values, weights);
        return new ScaleSearch(highest, firstStep, steps, Absolute: false).Find(values, weights, levels, out minimum);
    }

    private static void Weigh(ReadOnlySpan<float> values, Span<float> weights)
    {
        var squares = 0f;
        foreach (var value in values)
        {
            squares += value * value;
        }

        var mean = MathF.Sqrt(squares / GroupLength);
        for (var i = 0; i < values.Length; i++)
        {
            weights[i] = mean + Math.Abs(values[i]);
        }
    }
}
