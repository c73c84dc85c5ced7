using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>Rows of packed codes whose scales are stored beside them: NF4, int8, and what else <see cref="PackedRows"/> describes.</summary>
internal sealed unsafe class CodeRows : UnpackedRows
{
    // Scales of four rows that are read at once.
    private const int ScaleCount = 2048;
    private const nint Line = 32;

    // Bytes that are fetched ahead at least.
    private const nint LookAhead = 12 << 10;

    private readonly PackedRows _source;
    private readonly nint _perRow;
    private readonly nint _scalesPerRow;
    private readonly LineKind _kind;

    /// <summary>Describes a matrix.</summary>
    /// <param name="source">Its codes.</param>
    /// <param name="depth">Elements of a row of the matrix, which may be several rows of codes.</param>
    /// <param name="count">Number of rows of the matrix.</param>
    internal CodeRows(PackedRows source, nint depth, nint count)
    {
        (_source, Depth, Count, _perRow) = (source, depth, count, depth / source.Columns);
        RowBytes = source.RowBytes * _perRow;
        _scalesPerRow = source.Scales.Columns * _perRow;
        _kind = Kind();
    }

    private enum LineKind
    {
        None,
        Nibbles,
        SignedBytes,
    }

    /// <inheritdoc/>
    internal override nint Depth { get; }

    /// <inheritdoc/>
    internal override nint Count { get; }

    /// <inheritdoc/>
    internal override nint RowBytes { get; }

    private bool IsNibbles => CpuKernel.IsWide && _kind == LineKind.Nibbles;

    /// <inheritdoc/>
    internal override void Read(nint first, nint rows, float* values) => UnpackKernel.Read(_source, first * _perRow, rows * _perRow, values);

    // The first of the two codes in each of 16 bytes, and then the second of each.
    private protected override FloatRows Ordered(in FloatRows states)
    {
        if (!IsNibbles)
        {
            return states;
        }

        var place = States(states.Count * Depth);
        for (nint row = 0; row < states.Count; row++)
        {
            float* from = states[row], to = place + (row * Depth);
            for (nint i = 0; i < Depth; i += Line)
            {
                var (low, high) = (Vector512.Load(from + i), Vector512.Load(from + i + 16));
                Avx512F.PermuteVar16x32x2(low, Vector512.Create(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), high).Store(to + i);
                Avx512F.PermuteVar16x32x2(low, Vector512.Create(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), high).Store(to + i + 16);
            }
        }

        return new FloatRows((nint)place, Depth, states.Count);
    }

    private protected override void ReadOrdered(nint first, nint rows, float* values)
    {
        if (!CpuKernel.IsWide || _kind == LineKind.None)
        {
            Read(first, rows, values);
        }
        else if (_kind == LineKind.Nibbles)
        {
            Unpack<NibbleLines>(first, rows, values);
        }
        else
        {
            Unpack<SignedLines>(first, rows, values);
        }
    }

    private protected override bool TryOne(nint first, nint last, in FloatRows state, in FloatRows output)
    {
        if (!CpuKernel.IsWide || _kind == LineKind.None)
        {
            return false;
        }

        if (_kind == LineKind.Nibbles)
        {
            One<NibbleLines>(first, last, state[0], output[0]);
        }
        else
        {
            One<SignedLines>(first, last, state[0], output[0]);
        }

        return true;
    }

    // What is computed in registers: whole lines of codes with one scale, in rows that follow each other without gaps.
    private LineKind Kind()
    {
        var scales = _source.Scales;
        var block = Math.Min(scales.BlockColumns, _source.Columns);
        var fits = Avx512F.IsSupported && _source.Groups is null && scales.BlockRows == 1 && block % Line == 0 && _source.Columns % block == 0 && _scalesPerRow * 4 <= ScaleCount
            && _source.RowBytes * 8 == _source.Columns * _source.Bits;
        return fits && _source.Bits == 4 ? LineKind.Nibbles : fits && _source is { Bits: 8, AreSigned: true, Zeros: null } ? LineKind.SignedBytes : LineKind.None;
    }

    [SkipLocalsInit]
    private void Unpack<TLines>(nint first, nint rows, float* values)
        where TLines : struct, ICodeLines
    {
        var scales = stackalloc float[ScaleCount];
        var (block, levels) = (Depth / _scalesPerRow, TLines.Levels(_source));
        for (nint row = 0; row < rows; row++)
        {
            var at = (first + row) * _scalesPerRow;
            _source.Scales.Read(at, _scalesPerRow, scales);
            var codes = _source.Codes + ((first + row) * RowBytes);
            for (nint i = 0; i < _scalesPerRow; i++)
            {
                var meaning = TLines.Meaning(levels, scales[i], Zero(at + i));
                for (nint done = 0; done < block; done += Line)
                {
                    TLines.Values(codes, meaning, out var low, out var high);
                    low.Store(values);
                    high.Store(values + 16);
                    codes += TLines.Bytes;
                    values += Line;
                }
            }
        }
    }

    // Four rows at a time, which hides the latency of the sums.
    [SkipLocalsInit]
    private void One<TLines>(nint first, nint last, float* state, float* output)
        where TLines : struct, ICodeLines
    {
        var scales = stackalloc float[ScaleCount];
        var (block, levels, row) = (Depth / _scalesPerRow, TLines.Levels(_source), first);
        for (; row <= last - 4; row += 4)
        {
            _source.Scales.Read(row * _scalesPerRow, 4 * _scalesPerRow, scales);
            Four<TLines>(row, block, levels, scales, state).Store(output + (row - first));
        }

        if (row < last && last - first >= 4)
        {
            // The last four, of which some are computed again.
            _source.Scales.Read((last - 4) * _scalesPerRow, 4 * _scalesPerRow, scales);
            Four<TLines>(last - 4, block, levels, scales, state).Store(output + (last - 4 - first));
            return;
        }

        for (; row < last; row++)
        {
            _source.Scales.Read(row * _scalesPerRow, _scalesPerRow, scales);
            output[row - first] = Single<TLines>(row, block, levels, scales, state);
        }
    }

    private Vector128<float> Four<TLines>(nint row, nint block, Vector512<float> levels, float* scales, float* state)
        where TLines : struct, ICodeLines
    {
        var (a, b, c, d, bytes, count) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, RowBytes, _scalesPerRow);
        var at = row * count;
        byte* codes = _source.Codes + (row * bytes), next = codes + Math.Max(LookAhead, 4 * bytes);
        for (nint i = 0; i < count; i++)
        {
            var first = TLines.Meaning(levels, scales[i], Zero(at + i));
            var second = TLines.Meaning(levels, scales[count + i], Zero(at + count + i));
            var third = TLines.Meaning(levels, scales[(2 * count) + i], Zero(at + (2 * count) + i));
            var fourth = TLines.Meaning(levels, scales[(3 * count) + i], Zero(at + (3 * count) + i));
            for (nint done = 0; done < block; done += Line)
            {
                var (x, y) = (Vector512.Load(state), Vector512.Load(state + 16));
                a = Add<TLines>(codes, first, x, y, a);
                b = Add<TLines>(codes + bytes, second, x, y, b);
                c = Add<TLines>(codes + (2 * bytes), third, x, y, c);
                d = Add<TLines>(codes + (3 * bytes), fourth, x, y, d);
                Fetch<TLines>(next);
                next += 4 * TLines.Bytes;
                codes += TLines.Bytes;
                state += Line;
            }
        }

        return Vectors512.Sums(a, b, c, d);
    }

    private float Single<TLines>(nint row, nint block, Vector512<float> levels, float* scales, float* state)
        where TLines : struct, ICodeLines
    {
        var sum = Vector512<float>.Zero;
        var codes = _source.Codes + (row * RowBytes);
        for (nint i = 0; i < _scalesPerRow; i++)
        {
            var meaning = TLines.Meaning(levels, scales[i], Zero((row * _scalesPerRow) + i));
            for (nint done = 0; done < block; done += Line)
            {
                sum = Add<TLines>(codes, meaning, Vector512.Load(state), Vector512.Load(state + 16), sum);
                codes += TLines.Bytes;
                state += Line;
            }
        }

        return Vectors512.Sums(sum, sum, sum, sum)[0];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Add<TLines>(byte* codes, Vector512<float> meaning, Vector512<float> x, Vector512<float> y, Vector512<float> sum)
        where TLines : struct, ICodeLines
    {
        TLines.Values(codes, meaning, out var low, out var high);
        return Vectors512.MultiplyAdd(y, high, Vectors512.MultiplyAdd(x, low, sum));
    }

    // A part of following rows, into the second cache: processors prefetch at most within a page.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fetch<TLines>(byte* place)
        where TLines : struct, ICodeLines
    {
        Sse.Prefetch1(place);
        if (TLines.Bytes > 16)
        {
            Sse.Prefetch1(place + 64);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private float Zero(nint at) => _source.Zeros is null ? 0 : _source.Zeros[at];

    /// <summary>32 codes that follow each other in memory.</summary>
    private interface ICodeLines
    {
        /// <summary>Their bytes.</summary>
        static abstract nint Bytes { get; }

        /// <summary>What codes mean before they are scaled.</summary>
        static abstract Vector512<float> Levels(in PackedRows source);

        /// <summary>What codes of a block mean.</summary>
        static abstract Vector512<float> Meaning(Vector512<float> levels, float scale, float zero);

        /// <summary>Their values.</summary>
        static abstract void Values(byte* codes, Vector512<float> meaning, out Vector512<float> low, out Vector512<float> high);
    }

    /// <summary>Two codes a byte: the first of each byte, and then the second of each.</summary>
    private readonly struct NibbleLines : ICodeLines
    {
        public static nint Bytes => 16;

        public static Vector512<float> Levels(in PackedRows source) => Vector512.Load(source.Levels);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Meaning(Vector512<float> levels, float scale, float zero) => (levels - Vector512.Create(zero)) * Vector512.Create(scale);

        // The instruction looks at the lowest four bits of an index.
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Values(byte* codes, Vector512<float> meaning, out Vector512<float> low, out Vector512<float> high)
        {
            var pairs = Avx512F.ConvertToVector512Int32(Vector128.Load(codes));
            low = Avx512F.PermuteVar16x32(meaning, pairs);
            high = Avx512F.PermuteVar16x32(meaning, pairs >>> 4);
        }
    }

    /// <summary>Signed bytes.</summary>
    private readonly struct SignedLines : ICodeLines
    {
        public static nint Bytes => 32;

        public static Vector512<float> Levels(in PackedRows source) => Vector512<float>.Zero;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Meaning(Vector512<float> levels, float scale, float zero) => Vector512.Create(scale);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Values(byte* codes, Vector512<float> meaning, out Vector512<float> low, out Vector512<float> high)
        {
            low = Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)codes))) * meaning;
            high = Vector512.ConvertToSingle(Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)codes + 16))) * meaning;
        }
    }
}
