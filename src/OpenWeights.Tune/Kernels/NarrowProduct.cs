using System.Runtime.Intrinsics;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products with as few columns as an adapter's rank, in float32. BLAS packs its factors for large products and spends most of its time on
/// that here.
/// </summary>
internal static unsafe class NarrowProduct
{
    private const int MaxColumns = 64;

    // Rows of a product that are accumulated at once.
    private const int BlockRows = 256;

    /// <summary>Whether a product is supported: float32 matrices on the CPU, with few columns and a long inner dimension.</summary>
    internal static bool Serves(Tensor sum, Tensor left, Tensor right) =>
        ServesMatrix(sum) && ServesMatrix(left) && ServesMatrix(right) && sum.stride(1) == 1 && right.stride(1) == 1
        && sum.size(1) <= MaxColumns && left.size(1) >= 2 * sum.size(1) && sum.numel() > 0
        && (left.stride(1) == 1 || left.stride(0) == 1);

    /// <summary>sum += scale x left x right.</summary>
    /// <param name="sum">The sum, [rows, columns], row-major.</param>
    /// <param name="left">Left factor, [rows, depth], row- or column-major.</param>
    /// <param name="right">Right factor, [depth, columns], row-major.</param>
    /// <param name="scale">Scaling factor.</param>
    internal static void Add(Tensor sum, Tensor left, Tensor right, float scale)
    {
        // Contiguous rows are read in whole vectors; rows shorter than a vector are transposed.
        var rest = left.stride(1) == 1 ? 0 : left.size(0) % Vector512<float>.Count;
        if (rest > 0)
        {
            using var scope = NewDisposeScope();
            var whole = left.size(0) - rest;
            Add(sum.narrow(0, whole, rest), left.narrow(0, whole, rest).contiguous(), right, scale);
            if (whole > 0)
            {
                Add(sum.narrow(0, 0, whole), left.narrow(0, 0, whole), right, scale);
            }
        }
        else if (CpuKernel.IsWide)
        {
            Add<Vectors512, Vector512<float>>(sum, left, right, scale);
        }
        else
        {
            Add<Vectors256, Vector256<float>>(sum, left, right, scale);
        }
    }

    private static bool ServesMatrix(Tensor tensor) => CpuKernel.ServesRows(tensor) && tensor.dtype == ScalarType.Float32 && tensor.ndim == 2;

    private static void Add<TVectors, TVector>(Tensor sum, Tensor left, Tensor right, float scale)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        using var scope = NewDisposeScope();
        var (rows, columns, depth) = ((nint)sum.size(0), (nint)sum.size(1), (nint)left.size(1));
        var across = left.stride(1) != 1;
        var unit = across ? TileProduct.TileRows : TVectors.Width;
        var factor = Packed(right, (columns + unit - 1) / unit * unit, scale);
        var (a, b, c) = ((nint)CpuKernel.Pointer(left), (nint)CpuKernel.Pointer(factor), (nint)CpuKernel.Pointer(sum));
        var (leftStride, sumStride, whole) = ((nint)Math.Max(left.stride(0), left.stride(1)), (nint)sum.stride(0), (nint)factor.size(1));
        CpuKernel.Run((rows + BlockRows - 1) / BlockRows, BlockRows * depth, (first, last) =>
        {
            var (start, end) = ((nint)first * BlockRows, Math.Min(rows, (nint)last * BlockRows));
            if (!across && whole == columns)
            {
                var target = new TileProduct.Target((float*)c + (start * sumStride), sumStride, adds: true);
                TileProduct.Run<TVectors, TVector>(new TileProduct.Factor((float*)a + (start * leftStride), leftStride, 1), (float*)b, whole, target, end - start, whole, depth);
                return;
            }

            var part = stackalloc float[BlockRows * (MaxColumns + TileProduct.TileRows)];
            for (var row = start; row < end; row += BlockRows)
            {
                var count = Math.Min(BlockRows, end - row);
                if (across)
                {
                    // Transposed: the columns of the right factor times those of the left.
                    var target = new TileProduct.Target(part, BlockRows, adds: false);
                    TileProduct.Run<TVectors, TVector>(new TileProduct.Factor((float*)b, 1, whole), (float*)a + row, leftStride, target, whole, count, depth);
                    Add((float*)c + (row * sumStride), sumStride, part, (1, BlockRows), (count, columns));
                }
                else
                {
                    var target = new TileProduct.Target(part, whole, adds: false);
                    TileProduct.Run<TVectors, TVector>(new TileProduct.Factor((float*)a + (row * leftStride), leftStride, 1), (float*)b, whole, target, count, whole, depth);
                    Add((float*)c + (row * sumStride), sumStride, part, (whole, 1), (count, columns));
                }
            }
        });
        GC.KeepAlive((sum, left, factor));
    }

    // The right factor, scaled and padded with zero columns.
    private static Tensor Packed(Tensor right, long columns, float scale)
    {
        if (scale == 1 && columns == right.size(1))
        {
            return right;
        }

        using Scalar factor = scale;
        var packed = zeros([right.size(0), columns], float32, right.device);
        _ = packed.narrow(1, 0, right.size(1)).copy_(right).mul_(factor);
        return packed;
    }

    private static void Add(float* sum, nint stride, float* part, (nint Row, nint Column) step, (nint Rows, nint Columns) size)
    {
        for (nint row = 0; row < size.Rows; row++)
        {
            for (nint column = 0; column < size.Columns; column++)
            {
                sum[(row * stride) + column] += part[(row * step.Row) + (column * step.Column)];
            }
        }
    }
}
