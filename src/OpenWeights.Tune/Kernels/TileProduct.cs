using System.Runtime.CompilerServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products of small matrices whose factors are in the caches, on one thread: tiles of six rows are accumulated in registers. BLAS packs
/// its factors for large products, wakes its threads, and spends most of its time on that here.
/// </summary>
internal static unsafe class TileProduct
{
    /// <summary>Rows of a tile: row counts that are multiples of it are fastest.</summary>
    internal const int TileRows = 6;

    private const int TallRows = 8;

    // Elements of the right factor that stay in the L1 cache, a part of the inner dimension by the columns of a tile: 24 KiB.
    private const int SlabNumbers = 96 * 64;

    /// <summary>Columns of the widest tile; right factors stored in strips of this many columns are read fastest.</summary>
    internal static int StripColumns<TVectors, TVector>()
        where TVectors : struct, IVectors<TVector>
        where TVector : struct => TVectors.Width * TVectors.TileVectors;

    /// <summary>target (+)= left x right.</summary>
    /// <param name="left">Left factor, [rows, depth], in any layout.</param>
    /// <param name="right">Right factor, [depth, columns], row-major.</param>
    /// <param name="stride">Row stride of the right factor.</param>
    /// <param name="target">Result, [rows, columns], row-major.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="columns">Number of columns, a multiple of a vector's width.</param>
    /// <param name="depth">Length of the inner dimension.</param>
    internal static void Run<TVectors, TVector>(Factor left, float* right, nint stride, Target target, nint rows, nint columns, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var slab = SlabNumbers / Math.Min(columns, StripColumns<TVectors, TVector>());
        for (nint first = 0; first < depth; first += slab)
        {
            var part = left with { Start = left.Start + (first * left.ColumnStride) };
            RunSlab<TVectors, TVector>(part, right + (first * stride), stride, target with { Adds = target.Adds || first > 0 }, rows, columns, Math.Min(slab, depth - first));
        }
    }

    private static void RunSlab<TVectors, TVector>(in Factor left, float* right, nint stride, in Target target, nint rows, nint columns, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        for (nint column = 0; column < columns;)
        {
            var vectors = (columns - column) / TVectors.Width;
            vectors = vectors >= 4 && TVectors.TileVectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
            var (height, row) = (vectors == 1 ? TallRows : TileRows, (nint)0);
            for (; row <= rows - height; row += height)
            {
                var (a, c) = (left with { Start = left.Start + (row * left.RowStride) }, target with { Start = target.Start + (row * target.Stride) + column });
                if (vectors == 4)
                {
                    Tile4<TVectors, TVector>(a, right + column, stride, c, depth);
                }
                else if (vectors == 2)
                {
                    Tile2<TVectors, TVector>(a, right + column, stride, c, depth);
                }
                else
                {
                    Tall<TVectors, TVector>(a, right + column, stride, c, depth);
                }
            }

            for (; row < rows; row++)
            {
                for (nint v = 0; v < vectors; v++)
                {
                    var at = column + (v * TVectors.Width);
                    Row<TVectors, TVector>(left.Start + (row * left.RowStride), left.ColumnStride, right + at, stride, target with { Start = target.Start + (row * target.Stride) + at }, depth);
                }
            }

            column += vectors * TVectors.Width;
        }
    }

    // A row outside all tiles; four independent sums hide the latency of additions.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Row<TVectors, TVector>(float* left, nint step, float* right, nint stride, in Target target, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (s0, s1, s2, s3, i) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero, (nint)0);
        for (; i <= depth - 4; i += 4)
        {
            s0 = TVectors.MultiplyAdd(TVectors.Create(left[i * step]), TVectors.Load(right + (i * stride)), s0);
            s1 = TVectors.MultiplyAdd(TVectors.Create(left[(i + 1) * step]), TVectors.Load(right + ((i + 1) * stride)), s1);
            s2 = TVectors.MultiplyAdd(TVectors.Create(left[(i + 2) * step]), TVectors.Load(right + ((i + 2) * stride)), s2);
            s3 = TVectors.MultiplyAdd(TVectors.Create(left[(i + 3) * step]), TVectors.Load(right + ((i + 3) * stride)), s3);
        }

        for (; i < depth; i++)
        {
            s0 = TVectors.MultiplyAdd(TVectors.Create(left[i * step]), TVectors.Load(right + (i * stride)), s0);
        }

        Put<TVectors, TVector>(target.Start, TVectors.Add(TVectors.Add(s0, s1), TVectors.Add(s2, s3)), target.Adds);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TVectors, TVector>(float* place, TVector sum, bool adds)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct => TVectors.Store(place, adds ? TVectors.Add(TVectors.Load(place), sum) : sum);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile4<TVectors, TVector>(in Factor left, float* right, nint stride, in Target target, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var width = TVectors.Width;
        var a0 = left.Start;
        var a1 = a0 + left.RowStride;
        var a2 = a1 + left.RowStride;
        var a3 = a2 + left.RowStride;
        var a4 = a3 + left.RowStride;
        var a5 = a4 + left.RowStride;
        var (s00, s01, s02, s03) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s10, s11, s12, s13) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s20, s21, s22, s23) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s30, s31, s32, s33) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s40, s41, s42, s43) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s50, s51, s52, s53) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        nint at = 0;
        for (nint i = 0; i < depth; i++)
        {
            var b0 = TVectors.Load(right);
            var b1 = TVectors.Load(right + width);
            var b2 = TVectors.Load(right + (2 * width));
            var b3 = TVectors.Load(right + (3 * width));
            var a = TVectors.Create(a0[at]);
            s00 = TVectors.MultiplyAdd(a, b0, s00);
            s01 = TVectors.MultiplyAdd(a, b1, s01);
            s02 = TVectors.MultiplyAdd(a, b2, s02);
            s03 = TVectors.MultiplyAdd(a, b3, s03);
            a = TVectors.Create(a1[at]);
            s10 = TVectors.MultiplyAdd(a, b0, s10);
            s11 = TVectors.MultiplyAdd(a, b1, s11);
            s12 = TVectors.MultiplyAdd(a, b2, s12);
            s13 = TVectors.MultiplyAdd(a, b3, s13);
            a = TVectors.Create(a2[at]);
            s20 = TVectors.MultiplyAdd(a, b0, s20);
            s21 = TVectors.MultiplyAdd(a, b1, s21);
            s22 = TVectors.MultiplyAdd(a, b2, s22);
            s23 = TVectors.MultiplyAdd(a, b3, s23);
            a = TVectors.Create(a3[at]);
            s30 = TVectors.MultiplyAdd(a, b0, s30);
            s31 = TVectors.MultiplyAdd(a, b1, s31);
            s32 = TVectors.MultiplyAdd(a, b2, s32);
            s33 = TVectors.MultiplyAdd(a, b3, s33);
            a = TVectors.Create(a4[at]);
            s40 = TVectors.MultiplyAdd(a, b0, s40);
            s41 = TVectors.MultiplyAdd(a, b1, s41);
            s42 = TVectors.MultiplyAdd(a, b2, s42);
            s43 = TVectors.MultiplyAdd(a, b3, s43);
            a = TVectors.Create(a5[at]);
            s50 = TVectors.MultiplyAdd(a, b0, s50);
            s51 = TVectors.MultiplyAdd(a, b1, s51);
            s52 = TVectors.MultiplyAdd(a, b2, s52);
            s53 = TVectors.MultiplyAdd(a, b3, s53);
            at += left.ColumnStride;
            right += stride;
        }

        var c = target.Start;
        Put<TVectors, TVector>(c, s00, target.Adds);
        Put<TVectors, TVector>(c + width, s01, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s02, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s03, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s10, target.Adds);
        Put<TVectors, TVector>(c + width, s11, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s12, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s13, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s20, target.Adds);
        Put<TVectors, TVector>(c + width, s21, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s22, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s23, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s30, target.Adds);
        Put<TVectors, TVector>(c + width, s31, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s32, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s33, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s40, target.Adds);
        Put<TVectors, TVector>(c + width, s41, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s42, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s43, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s50, target.Adds);
        Put<TVectors, TVector>(c + width, s51, target.Adds);
        Put<TVectors, TVector>(c + (2 * width), s52, target.Adds);
        Put<TVectors, TVector>(c + (3 * width), s53, target.Adds);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile2<TVectors, TVector>(in Factor left, float* right, nint stride, in Target target, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var width = TVectors.Width;
        var a0 = left.Start;
        var a1 = a0 + left.RowStride;
        var a2 = a1 + left.RowStride;
        var a3 = a2 + left.RowStride;
        var a4 = a3 + left.RowStride;
        var a5 = a4 + left.RowStride;
        var (s00, s01) = (TVectors.Zero, TVectors.Zero);
        var (s10, s11) = (TVectors.Zero, TVectors.Zero);
        var (s20, s21) = (TVectors.Zero, TVectors.Zero);
        var (s30, s31) = (TVectors.Zero, TVectors.Zero);
        var (s40, s41) = (TVectors.Zero, TVectors.Zero);
        var (s50, s51) = (TVectors.Zero, TVectors.Zero);
        nint at = 0;
        for (nint i = 0; i < depth; i++)
        {
            var b0 = TVectors.Load(right);
            var b1 = TVectors.Load(right + width);
            var a = TVectors.Create(a0[at]);
            s00 = TVectors.MultiplyAdd(a, b0, s00);
            s01 = TVectors.MultiplyAdd(a, b1, s01);
            a = TVectors.Create(a1[at]);
            s10 = TVectors.MultiplyAdd(a, b0, s10);
            s11 = TVectors.MultiplyAdd(a, b1, s11);
            a = TVectors.Create(a2[at]);
            s20 = TVectors.MultiplyAdd(a, b0, s20);
            s21 = TVectors.MultiplyAdd(a, b1, s21);
            a = TVectors.Create(a3[at]);
            s30 = TVectors.MultiplyAdd(a, b0, s30);
            s31 = TVectors.MultiplyAdd(a, b1, s31);
            a = TVectors.Create(a4[at]);
            s40 = TVectors.MultiplyAdd(a, b0, s40);
            s41 = TVectors.MultiplyAdd(a, b1, s41);
            a = TVectors.Create(a5[at]);
            s50 = TVectors.MultiplyAdd(a, b0, s50);
            s51 = TVectors.MultiplyAdd(a, b1, s51);
            at += left.ColumnStride;
            right += stride;
        }

        var c = target.Start;
        Put<TVectors, TVector>(c, s00, target.Adds);
        Put<TVectors, TVector>(c + width, s01, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s10, target.Adds);
        Put<TVectors, TVector>(c + width, s11, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s20, target.Adds);
        Put<TVectors, TVector>(c + width, s21, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s30, target.Adds);
        Put<TVectors, TVector>(c + width, s31, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s40, target.Adds);
        Put<TVectors, TVector>(c + width, s41, target.Adds);
        c += target.Stride;
        Put<TVectors, TVector>(c, s50, target.Adds);
        Put<TVectors, TVector>(c + width, s51, target.Adds);
    }

    // As many rows as the latency of a product, of one vector each.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tall<TVectors, TVector>(in Factor left, float* right, nint stride, in Target target, nint depth)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var a0 = left.Start;
        var a1 = a0 + left.RowStride;
        var a2 = a1 + left.RowStride;
        var a3 = a2 + left.RowStride;
        var a4 = a3 + left.RowStride;
        var a5 = a4 + left.RowStride;
        var a6 = a5 + left.RowStride;
        var a7 = a6 + left.RowStride;
        var (s0, s1, s2, s3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (s4, s5, s6, s7) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        nint at = 0;
        for (nint i = 0; i < depth; i++)
        {
            var b = TVectors.Load(right);
            s0 = TVectors.MultiplyAdd(TVectors.Create(a0[at]), b, s0);
            s1 = TVectors.MultiplyAdd(TVectors.Create(a1[at]), b, s1);
            s2 = TVectors.MultiplyAdd(TVectors.Create(a2[at]), b, s2);
            s3 = TVectors.MultiplyAdd(TVectors.Create(a3[at]), b, s3);
            s4 = TVectors.MultiplyAdd(TVectors.Create(a4[at]), b, s4);
            s5 = TVectors.MultiplyAdd(TVectors.Create(a5[at]), b, s5);
            s6 = TVectors.MultiplyAdd(TVectors.Create(a6[at]), b, s6);
            s7 = TVectors.MultiplyAdd(TVectors.Create(a7[at]), b, s7);
            at += left.ColumnStride;
            right += stride;
        }

        var c = target.Start;
        Put<TVectors, TVector>(c, s0, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s1, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s2, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s3, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s4, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s5, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s6, target.Adds);
        Put<TVectors, TVector>(c += target.Stride, s7, target.Adds);
    }

    /// <summary>A factor with elements in any layout.</summary>
    internal readonly struct Factor(float* start, nint rowStride, nint columnStride)
    {
        internal float* Start { get; init; } = start;

        internal nint RowStride { get; } = rowStride;

        internal nint ColumnStride { get; } = columnStride;
    }

    /// <summary>The destination of a product.</summary>
    internal readonly struct Target(float* start, nint stride, bool adds)
    {
        internal float* Start { get; init; } = start;

        internal nint Stride { get; } = stride;

        /// <summary>Whether the product is added to the existing values.</summary>
        internal bool Adds { get; init; } = adds;
    }
}
