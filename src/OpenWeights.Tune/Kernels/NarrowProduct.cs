using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products with as few columns as an adapter's rank: BLAS packs its factors for large products and spends most of its time on that here.
/// Tiles of 8 x 16 numbers are kept in registers; float32, on CPUs whose vectors are 512 bits wide.
/// </summary>
internal static unsafe class NarrowProduct
{
    private const int TileRows = 8;
    private const int TileColumns = 16;
    private const int MostColumns = 64;

    // The part of the summed dimension whose tile of the second factor stays in the first cache.
    private const int Depth = 512;

    /// <summary>Whether a product can be computed here: matrices of float32 on the CPU, with few columns and a long sum.</summary>
    internal static bool Serves(Tensor sum, Tensor left, Tensor right) =>
        CpuKernel.IsWide && ServesMatrix(sum) && ServesMatrix(left) && ServesMatrix(right) && sum.stride(1) == 1 && right.stride(1) == 1
        && sum.size(1) <= MostColumns && left.size(1) >= 2 * sum.size(1) && sum.numel() > 0;

    /// <summary>sum += scale x left x right.</summary>
    /// <param name="sum">[rows, columns], columns side by side.</param>
    /// <param name="left">[rows, depth], in any order.</param>
    /// <param name="right">[depth, columns], columns side by side.</param>
    /// <param name="scale">The scale.</param>
    internal static void Add(Tensor sum, Tensor left, Tensor right, float scale)
    {
        var (rows, columns, depth) = (sum.size(0), sum.size(1), left.size(1));
        var a = new Matrix((nint)CpuKernel.Pointer(left), (nint)left.stride(0), (nint)left.stride(1));
        var b = new Matrix((nint)CpuKernel.Pointer(right), (nint)right.stride(0), 1);
        var c = new Matrix((nint)CpuKernel.Pointer(sum), (nint)sum.stride(0), 1);
        var groups = (rows + TileRows - 1) / TileRows;
        CpuKernel.Run(groups, TileRows * columns * depth / 16, (first, last) => Add(a, b, c, (first * TileRows, Math.Min(rows, last * TileRows)), (columns, depth), scale));
        GC.KeepAlive((sum, left, right));
    }

    private static bool ServesMatrix(Tensor tensor) => CpuKernel.ServesRows(tensor) && tensor.dtype == ScalarType.Float32 && tensor.ndim == 2;

    private static void Add(in Matrix a, in Matrix b, in Matrix c, (long First, long Last) rows, (long Columns, long Depth) size, float scale)
    {
        for (long k = 0; k < size.Depth; k += Depth)
        {
            var part = new Part(a, b, c, k, (int)Math.Min(Depth, size.Depth - k), scale);
            for (long column = 0; column < size.Columns; column += TileColumns)
            {
                Strip(part, rows, (column, (int)Math.Min(TileColumns, size.Columns - column)));
            }
        }
    }

    // The tiles below each other.
    [SkipLocalsInit]
    private static void Strip(in Part part, (long First, long Last) rows, (long First, int Width) columns)
    {
        var panel = stackalloc float[Depth * TileColumns];
        var edge = stackalloc float[TileRows * TileColumns];
        var (a, c) = (part.Left, part.Sum);
        var right = new Panel((float*)part.Right.Start + (part.Start * part.Right.RowStride) + columns.First, part.Right.RowStride);
        if (columns.Width < TileColumns)
        {
            right = Padded(right, panel, part.Depth, columns.Width);
        }

        for (var row = rows.First; row < rows.Last; row += TileRows)
        {
            var height = (int)Math.Min(TileRows, rows.Last - row);
            var left = (nint)((float*)a.Start + (row * a.RowStride) + (part.Start * a.ColumnStride));
            var target = (float*)c.Start + (row * c.RowStride) + columns.First;
            if (height == TileRows && columns.Width == TileColumns)
            {
                Tile((left, a.RowStride, a.ColumnStride), right, ((nint)target, c.RowStride), part.Depth, part.Scale);
                continue;
            }

            Copy(target, c.RowStride, edge, TileColumns, height, columns.Width);
            EdgeTile((left, a.RowStride, a.ColumnStride), right, edge, (part.Depth, height), part.Scale);
            Copy(edge, TileColumns, target, c.RowStride, height, columns.Width);
        }
    }

    private static Panel Padded(Panel right, float* panel, int depth, int width)
    {
        for (var i = 0; i < depth; i++)
        {
            for (var j = 0; j < TileColumns; j++)
            {
                panel[(i * TileColumns) + j] = j < width ? right.Start[(i * right.Stride) + j] : 0;
            }
        }

        return new Panel(panel, TileColumns);
    }

    private static void Copy(float* from, nint fromStride, float* to, nint toStride, int height, int width)
    {
        for (var i = 0; i < height; i++)
        {
            new ReadOnlySpan<float>(from + (i * fromStride), width).CopyTo(new Span<float>(to + (i * toStride), width));
        }
    }

    private static void EdgeTile((nint Start, nint Row, nint Column) left, Panel right, float* target, (int Depth, int Height) size, float scale)
    {
        for (var row = 0; row < size.Height; row++)
        {
            var from = (float*)left.Start + (row * left.Row);
            var sum = Vector512<float>.Zero;
            for (nint i = 0; i < size.Depth; i++)
            {
                sum = Vector512.FusedMultiplyAdd(Vector512.Create(from[i * left.Column]), Vector512.Load(right.Start + (i * right.Stride)), sum);
            }

            var place = target + (row * TileColumns);
            (Vector512.Load(place) + (sum * scale)).Store(place);
        }
    }

    private static void Tile((nint Start, nint Row, nint Column) left, Panel right, (nint Start, nint Stride) target, int depth, float scale)
    {
        var (a0, a1) = (left.Start, left.Start + (left.Row * sizeof(float)));
        var (a2, a3) = (a1 + (left.Row * sizeof(float)), a1 + (2 * left.Row * sizeof(float)));
        var (a4, a5) = (a3 + (left.Row * sizeof(float)), a3 + (2 * left.Row * sizeof(float)));
        var (a6, a7) = (a5 + (left.Row * sizeof(float)), a5 + (2 * left.Row * sizeof(float)));
        var (s0, s1, s2, s3) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
        var (s4, s5, s6, s7) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero);
        var b = right.Start;
        nint at = 0;
        for (var i = 0; i < depth; i++)
        {
            var v = Vector512.Load(b);
            s0 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a0 + at)), v, s0);
            s1 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a1 + at)), v, s1);
            s2 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a2 + at)), v, s2);
            s3 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a3 + at)), v, s3);
            s4 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a4 + at)), v, s4);
            s5 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a5 + at)), v, s5);
            s6 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a6 + at)), v, s6);
            s7 = Vector512.FusedMultiplyAdd(Vector512.Create(*((float*)a7 + at)), v, s7);
            at += left.Column;
            b += right.Stride;
        }

        var c = (float*)target.Start;
        var by = Vector512.Create(scale);
        Into(c, by, s0);
        Into(c += target.Stride, by, s1);
        Into(c += target.Stride, by, s2);
        Into(c += target.Stride, by, s3);
        Into(c += target.Stride, by, s4);
        Into(c += target.Stride, by, s5);
        Into(c += target.Stride, by, s6);
        Into(c += target.Stride, by, s7);
    }

    private static void Into(float* place, Vector512<float> scale, Vector512<float> sum) => Vector512.FusedMultiplyAdd(sum, scale, Vector512.Load(place)).Store(place);

    /// <summary>What the tiles of a part of the summed dimension share.</summary>
    private readonly record struct Part(Matrix Left, Matrix Right, Matrix Sum, long Start, int Depth, float Scale);

    private readonly record struct Matrix(nint Start, nint RowStride, nint ColumnStride);

    private readonly struct Panel(float* start, nint stride)
    {
        internal float* Start => start;

        internal nint Stride => stride;
    }
}
