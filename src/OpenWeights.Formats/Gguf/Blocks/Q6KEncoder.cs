using System.Buffers.Binary;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>ggml's <c>quantize_row_q6_K_ref</c>: 256 values in 16 groups, whose scale is searched for the least weighted error.</summary>
internal static class Q6KEncoder
{
    private const int GroupLength = 16;
    private const int Groups = 16;
    private const int Levels = 32;

    public static void Encode(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[Groups];
        Span<byte> levels = stackalloc byte[values.Length];
        var (largest, largestMagnitude) = (0f, 0f);
        for (var group = 0; group < Groups; group++)
        {
            scales[group] = FindScale(values.Slice(group * GroupLength, GroupLength), levels.Slice(group * GroupLength, GroupLength));
            if (Math.Abs(scales[group]) > largestMagnitude)
            {
                (largest, largestMagnitude) = (scales[group], Math.Abs(scales[group]));
            }
        }

        if (largestMagnitude < Rounding.Nothing)
        {
            block.Clear();
            return;
        }

        var inverse = -128f / largest;
        var blockScale = (Half)(1 / inverse);
        for (var group = 0; group < Groups; group++)
        {
            var scale = (sbyte)Math.Min(127, Rounding.Nearest(inverse * scales[group]));
            block[192 + group] = (byte)scale;
            Requantise(values.Slice(group * GroupLength, GroupLength), (float)blockScale * scale, levels.Slice(group * GroupLength, GroupLength));
        }

        Pack(levels, block);
        BinaryPrimitives.WriteHalfLittleEndian(block[208..], blockScale);
    }

    private static void Requantise(ReadOnlySpan<float> values, float scale, Span<byte> levels)
    {
        if (scale == 0)
        {
            return;
        }

        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (byte)(Math.Clamp(Rounding.Nearest(values[i] / scale), -Levels, Levels - 1) + Levels);
        }
    }

    private static void Pack(ReadOnlySpan<byte> levels, Span<byte> block)
    {
        for (var half = 0; half < 2; half++)
        {
            var from = levels.Slice(half * 128, 128);
            var low = block.Slice(half * 64, 64);
            var high = block.Slice(128 + (half * 32), 32);
            for (var i = 0; i < 32; i++)
            {
                low[i] = (byte)((from[i] & 15) | ((from[i + 64] & 15) << 4));
                low[i + 32] = (byte)((from[i + 32] & 15) | ((from[i + 96] & 15) << 4));
                high[i] = (byte)((from[i] >> 4) | ((from[i + 32] >> 4) << 2) | ((from[i + 64] >> 4) << 4) | ((from[i + 96] >> 4) << 6));
            }
        }
    }

    /// <summary>ggml's <c>make_qx_quants</c> with each value weighted by its square.</summary>
    private static float FindScale(ReadOnlySpan<float> values, Span<byte> levels)
    {
        var (largest, magnitude) = (0f, 0f);
        foreach (var value in values)
        {
            if (Math.Abs(value) > magnitude)
            {
                (magnitude, largest) = (Math.Abs(value), value);
            }
        }

        if (magnitude < Rounding.Nothing)
        {
            levels.Clear();
            return 0;
        }

        var (product, square) = Fit(values, -Levels / largest, levels);
        var scale = square != 0 ? product / square : 0;
        var best = scale * product;
        Span<byte> tried = stackalloc byte[values.Length];
        for (var step = -9; step <= 9; step++)
        {
            if (step == 0)
            {
                continue;
            }

            (product, square) = Fit(values, -(Levels + (0.1f * step)) / largest, tried);
            if (square > 0 && product * product > best * square)
            {
                tried.CopyTo(levels);
                scale = product / square;
                best = scale * product;
            }
        }

        return scale;
    }

    private static (float Product, float Square) Fit(ReadOnlySpan<float> values, float inverse, Span<byte> levels)
    {
        var (product, square) = (0f, 0f);
        for (var i = 0; i < values.Length; i++)
        {
            var level = Math.Clamp(Rounding.Nearest(inverse * values[i]), -Levels, Levels - 1);
            levels[i] = (byte)(level + Levels);
            var weight = values[i] * values[i];
            product += weight * values[i] * level;
            square += weight * level * level;
        }

        return (product, square);
    }
}
