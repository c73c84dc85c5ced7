using System.Buffers.Binary;

namespace OpenWeights.Formats.Gguf.Blocks;

/// <summary>ggml's <c>quantize_row_q3_K_ref</c>: 256 values in 16 groups, each with a scale of six bits.</summary>
internal static class Q3KEncoder
{
    private const int GroupLength = 16;
    private const int Groups = 16;
    private const int Levels = 4;
    private const int Rounds = 5;

    public static void Encode(ReadOnlySpan<float> values, Span<byte> block)
    {
        Span<float> scales = stackalloc float[Groups];
        Span<sbyte> levels = stackalloc sbyte[values.Length];
        var (largest, magnitude) = (0f, 0f);
        for (var group = 0; group < Groups; group++)
        {
            scales[group] = FindScale(values.Slice(group * GroupLength, GroupLength), levels.Slice(group * GroupLength, GroupLength));
            if (Math.Abs(scales[group]) > magnitude)
            {
                (largest, magnitude) = (scales[group], Math.Abs(scales[group]));
            }
        }

        block.Clear();
        var inverse = largest != 0 ? -32f / largest : 0;
        var blockScale = largest != 0 ? (Half)(1 / inverse) : (Half)0;
        BinaryPrimitives.WriteHalfLittleEndian(block[108..], blockScale);
        for (var group = 0; group < Groups; group++)
        {
            // Without a scale ggml leaves the codes at 0, which stand for -32 times nothing.
            var scale = largest != 0 ? Math.Clamp(Rounding.Nearest(inverse * scales[group]), -32, 31) : -32;
            PackScale(block.Slice(96, 12), group, scale + 32);
            Requantise(values.Slice(group * GroupLength, GroupLength), (float)blockScale * scale, levels.Slice(group * GroupLength, GroupLength));
        }

        PackLevels(levels, block);
    }

    // The lower four bits of two groups in a byte, then the upper two of four.
    private static void PackScale(Span<byte> packed, int group, int code)
    {
        packed[group % 8] |= (byte)((code & 15) << (group / 8 * 4));
        packed[8 + (group % 4)] |= (byte)((code >> 4) << (group / 4 * 2));
    }

    private static void Requantise(ReadOnlySpan<float> values, float scale, Span<sbyte> levels)
    {
        if (scale == 0)
        {
            return;
        }

        for (var i = 0; i < values.Length; i++)
        {
            levels[i] = (sbyte)(Math.Clamp(Rounding.Nearest(values[i] / scale), -Levels, Levels - 1) + Levels);
        }
    }

    // The third bits, a bit of each of 32 bytes for every 32 values, and then the lower two.
    private static void PackLevels(ReadOnlySpan<sbyte> levels, Span<byte> block)
    {
        Span<byte> all = stackalloc byte[levels.Length];
        for (var i = 0; i < levels.Length; i++)
        {
            all[i] = (byte)levels[i];
            block[i % 32] |= (byte)((all[i] >> 2) << (i / 32));
        }

        TwoBits.Pack(all, block.Slice(32, 64));
    }

    /// <summary>ggml's <c>make_q3_quants</c>: levels are changed one by one for the least error weighted by squares.</summary>
    private static float FindScale(ReadOnlySpan<float> values, Span<sbyte> levels)
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

        var inverse = -Levels / largest;
        var (product, square) = (0f, 0f);
        for (var i = 0; i < values.Length; i++)
        {
            var level = Math.Clamp(Rounding.Nearest(inverse * values[i]), -Levels, Levels - 1);
            levels[i] = (sbyte)level;
            var weight = values[i] * values[i];
            product += weight * values[i] * level;
            square += weight * level * level;
        }

        for (var round = 0; round < Rounds && Improve(values, levels, ref product, ref square); round++)
        {
        }

        for (var i = 0; i < levels.Length; i++)
        {
            levels[i] += Levels;
        }

        return square > 0 ? product / square : 0;
    }

    private static bool Improve(ReadOnlySpan<float> values, Span<sbyte> levels, ref float product, ref float square)
    {
        var changed = false;
        for (var i = 0; i < values.Length; i++)
        {
            var weight = values[i] * values[i];
            var newProduct = product - (weight * values[i] * levels[i]);
            var newSquare = square - (weight * levels[i] * levels[i]);
            if (!(newProduct > 0))
            {
                continue;
            }

            var level = Math.Clamp(Rounding.Nearest(values[i] * newSquare / newProduct), -Levels, Levels - 1);
            if (level == levels[i])
            {
                continue;
            }

            newProduct += weight * values[i] * level;
            newSquare += weight * level * level;
            if (newSquare > 0 && newProduct * newProduct * square > product * product * newSquare)
            {
                (levels[i], product, square, changed) = ((sbyte)level, newProduct, newSquare, true);
            }
        }

        return changed;
    }
}
