using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>Unpacks rows of codes: levels are looked up in registers where there are sixteen, and multiplied by their scale while they are there.</summary>
internal static unsafe class UnpackKernel
{
    // Codes unpacked at once where there is no quicker way, and scales read at once: both stay in the first cache.
    private const int LineCodes = 2048;
    private const int ScaleCount = 1024;
    private const int Width = 16;

    /// <summary>Unpacks rows with all threads.</summary>
    /// <param name="source">The rows.</param>
    /// <param name="first">First row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="values">Receives the values, row by row, as float32 or bfloat16.</param>
    /// <param name="isHalf">Whether as bfloat16.</param>
    internal static void Run(PackedRows source, nint first, nint rows, void* values, bool isHalf)
    {
        var place = (nint)values;
        CpuKernel.Run(rows, source.Columns, (from, to) =>
        {
            if (isHalf)
            {
                Rows<BFloat16Elements>(source, first + (nint)from, (nint)(to - from), (void*)(place + ((nint)from * source.Columns * BFloat16Elements.Size)));
            }
            else
            {
                Rows<Float32Elements>(source, first + (nint)from, (nint)(to - from), (void*)(place + ((nint)from * source.Columns * Float32Elements.Size)));
            }
        });
    }

    /// <summary>Unpacks rows on the calling thread.</summary>
    /// <param name="source">The rows.</param>
    /// <param name="first">First row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="values">Receives the values, row by row, as float32.</param>
    internal static void Read(in PackedRows source, nint first, nint rows, float* values) => Rows<Float32Elements>(source, first, rows, values);

    [SkipLocalsInit]
    private static void Rows<TElements>(in PackedRows source, nint first, nint rows, void* values)
        where TElements : struct, IElements
    {
        // Rows of scales are read several at a time, or one after the other in pieces of a row.
        var grid = source.Scales;
        var scales = stackalloc float[ScaleCount];
        var atOnce = Math.Max(1, ScaleCount / grid.Columns);
        var (held, heldEnd) = ((nint)0, (nint)0);
        for (nint row = 0; row < rows; row++)
        {
            var at = (first + row) / grid.BlockRows;
            var to = (byte*)values + (row * source.Columns * TElements.Size);
            if (grid.Columns > ScaleCount)
            {
                Wide<TElements>(source, first + row, at, scales, to);
                continue;
            }

            if (at >= heldEnd)
            {
                (held, heldEnd) = (at, Math.Min(at + atOnce, ((first + rows - 1) / grid.BlockRows) + 1));
                grid.Read(held * grid.Columns, (heldEnd - held) * grid.Columns, scales);
            }

            var zeros = source.Zeros is null ? null : source.Zeros + (at * grid.Columns);
            Row<TElements>(source, source.Codes + ((first + row) * source.RowBytes), 0, source.Columns, scales + ((at - held) * grid.Columns), zeros, to);
        }
    }

    // A row with more scales than fit: without an order of its own in pieces, otherwise with its scales in memory of its own.
    private static void Wide<TElements>(in PackedRows source, nint row, nint at, float* scales, byte* to)
        where TElements : struct, IElements
    {
        var grid = source.Scales;
        var codes = source.Codes + (row * source.RowBytes);
        if (source.Groups is not null)
        {
            var all = new float[grid.Columns];
            fixed (float* own = all)
            {
                grid.Read(at * grid.Columns, grid.Columns, own);
                Row<TElements>(source, codes, 0, source.Columns, own, source.Zeros is null ? null : source.Zeros + (at * grid.Columns), to);
            }

            return;
        }

        for (nint start = 0; start < grid.Columns; start += ScaleCount)
        {
            var count = Math.Min(ScaleCount, grid.Columns - start);
            grid.Read((at * grid.Columns) + start, count, scales);
            var (begin, end) = (start * grid.BlockColumns, Math.Min(source.Columns, (start + count) * grid.BlockColumns));
            Row<TElements>(source, codes, begin, end, scales, source.Zeros is null ? null : source.Zeros + (at * grid.Columns) + start, to + (begin * TElements.Size));
        }
    }

    // Some columns of a row, from the first of a block on.
    private static void Row<TElements>(in PackedRows source, byte* codes, nint begin, nint end, float* scales, byte* zeros, void* to)
        where TElements : struct, IElements
    {
        if (source.Groups is not null)
        {
            Ordered<TElements>(source, codes, scales, zeros, to);
            return;
        }

        var block = source.Scales.BlockColumns;
        var isQuick = source.Bits == 4 && CpuKernel.LooksUp && (block % Width == 0 || end - begin <= block);
        for (var start = begin; start < end; start += block)
        {
            var (index, count) = ((start - begin) / block, Math.Min(block, end - start));
            var (scale, zero) = (scales[index], zeros is null ? 0f : zeros[index]);
            var place = (byte*)to + ((start - begin) * TElements.Size);
            var done = isQuick ? Nibbles<TElements>(codes + (start / 2), count, source.Levels, scale, zero, place) : 0;
            if (done < count)
            {
                Some<TElements>(source, codes, start + done, count - done, scale, zero, place + (done * TElements.Size));
            }
        }
    }

    // As many codes as fill vectors; returns their number.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint Nibbles<TElements>(byte* codes, nint count, float* levels, float scale, float zero, byte* to)
        where TElements : struct, IElements
    {
        var i = (nint)0;
        if (CpuKernel.IsWide && typeof(TElements) == typeof(Float32Elements))
        {
            var (table, factor, subtracted) = (Vector512.Load(levels), Vector512.Create(scale), Vector512.Create(zero));
            for (; i <= count - Width; i += Width)
            {
                var found = Avx512F.PermuteVar16x32(table, Avx512F.ConvertToVector512Int32(Pairs(codes + (i / 2))));
                ((found - subtracted) * factor).Store((float*)to + i);
            }

            return i;
        }

        var (low, high, by, less) = (Vector256.Load(levels), Vector256.Load(levels + 8), Vector256.Create(scale), Vector256.Create(zero));
        for (; i <= count - Width; i += Width)
        {
            var pairs = Pairs(codes + (i / 2));
            TElements.Store(to, i, (Level(Avx2.ConvertToVector256Int32(pairs), low, high) - less) * by);
            TElements.Store(to, i + 8, (Level(Avx2.ConvertToVector256Int32(Sse2.ShiftRightLogical128BitLane(pairs, 8)), low, high) - less) * by);
        }

        return i;
    }

    // Sixteen codes, a byte each.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<byte> Pairs(byte* codes)
    {
        var words = Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)codes).AsByte());
        return ((words | (words << 4)) & Vector128.Create((ushort)0x0F0F)).AsByte();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Level(Vector256<int> codes, Vector256<float> low, Vector256<float> high) =>
        Avx.BlendVariable(Avx2.PermuteVar8x32(low, codes), Avx2.PermuteVar8x32(high, codes), (codes << 28).AsSingle());

    // Codes of one block, of any number of bits.
    [SkipLocalsInit]
    private static void Some<TElements>(in PackedRows source, byte* codes, nint start, nint count, float scale, float zero, byte* to)
        where TElements : struct, IElements
    {
        var line = stackalloc float[LineCodes];
        for (nint done = 0; done < count; done += LineCodes)
        {
            var some = Math.Min(LineCodes, count - done);
            Levels(source, codes, start + done, some, line);
            var (by, less, i) = (Vector256.Create(scale), Vector256.Create(zero), (nint)0);
            for (; i <= some - 8; i += 8)
            {
                TElements.Store(to, done + i, (Vector256.Load(line + i) - less) * by);
            }

            if (i < some)
            {
                TElements.StoreSome(to, done + i, (Float32Elements.LoadSome(line, i, (int)(some - i)) - less) * by, (int)(some - i));
            }
        }
    }

    // A row each of whose columns has the scale of its group.
    [SkipLocalsInit]
    private static void Ordered<TElements>(in PackedRows source, byte* codes, float* scales, byte* zeros, void* to)
        where TElements : struct, IElements
    {
        var line = stackalloc float[LineCodes];
        for (nint done = 0; done < source.Columns; done += LineCodes)
        {
            var some = Math.Min(LineCodes, source.Columns - done);
            Levels(source, codes, done, some, line);
            var groups = source.Groups + done;
            for (nint i = 0; i < some; i++)
            {
                line[i] = (zeros is null ? line[i] : line[i] - zeros[groups[i]]) * scales[groups[i]];
            }

            var j = (nint)0;
            for (; j <= some - 8; j += 8)
            {
                TElements.Store(to, done + j, Vector256.Load(line + j));
            }

            if (j < some)
            {
                TElements.StoreSome(to, done + j, Float32Elements.LoadSome(line, j, (int)(some - j)), (int)(some - j));
            }
        }
    }

    // Levels of codes of a row.
    private static void Levels(in PackedRows source, byte* codes, nint start, nint count, float* levels)
    {
        if (source.Bits == 8)
        {
            Bytes(source, codes + start, count, levels);
            return;
        }

        var (mask, bits) = ((1 << source.Bits) - 1, (nint)source.Bits);
        for (nint i = 0; i < count; i++)
        {
            var bit = (start + i) * bits;
            var (at, shift) = (bit >> 3, (int)(bit & 7));
            var window = shift + source.Bits <= 8 ? codes[at] : codes[at] | (codes[at + 1] << 8);
            levels[i] = source.Levels[(window >> shift) & mask];
        }
    }

    private static void Bytes(in PackedRows source, byte* codes, nint count, float* levels)
    {
        var i = (nint)0;
        if (CpuKernel.LooksUp)
        {
            for (; i <= count - 8; i += 8)
            {
                var found = source.AreSigned
                    ? Vector256.ConvertToSingle(Avx2.ConvertToVector256Int32((sbyte*)codes + i))
                    : Avx2.GatherVector256(source.Levels, Avx2.ConvertToVector256Int32(codes + i), sizeof(float));
                found.Store(levels + i);
            }
        }

        for (; i < count; i++)
        {
            levels[i] = source.AreSigned ? (sbyte)codes[i] : source.Levels[codes[i]];
        }
    }
}
