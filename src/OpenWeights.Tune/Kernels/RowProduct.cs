using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products of all rows of a matrix with the same few vectors, as needed when decoding token by token. The matrix is read once,
/// sequentially. Sums are float32.
/// </summary>
internal static unsafe class RowProduct
{
    /// <summary>output[i, row] = states[i] · matrix[row], for all i and a range of rows.</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="first">First row.</param>
    /// <param name="last">End row, exclusive.</param>
    /// <param name="states">The vectors.</param>
    /// <param name="output">The results; those of the first row come first.</param>
    internal static void Run(RowMatrix matrix, nint first, nint last, in FloatRows states, in FloatRows output)
    {
        if (CpuKernel.IsWide)
        {
            Run<Vectors512, Vector512<float>>(matrix, first, last, states, output);
        }
        else
        {
            Run<Vectors256, Vector256<float>>(matrix, first, last, states, output);
        }
    }

    /// <summary>output = sum over rows of weights[row] · matrix[row].</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="count">Number of rows.</param>
    /// <param name="weights">A weight per row.</param>
    /// <param name="output">The sum.</param>
    internal static void WeightedSum(RowMatrix matrix, nint count, float* weights, float* output)
    {
        if (CpuKernel.IsWide)
        {
            WeightedSum<Vectors512, Vector512<float>>(matrix, count, weights, output);
        }
        else
        {
            WeightedSum<Vectors256, Vector256<float>>(matrix, count, weights, output);
        }
    }

    private static void Run<TVectors, TVector>(RowMatrix matrix, nint first, nint last, in FloatRows states, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        if (matrix.IsHalf)
        {
            RowTiles.Run<TVectors, TVector, BFloat16Elements>(matrix, first, last, states, output);
        }
        else
        {
            RowTiles.Run<TVectors, TVector, Float32Elements>(matrix, first, last, states, output);
        }
    }

    private static void WeightedSum<TVectors, TVector>(RowMatrix matrix, nint count, float* weights, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        if (matrix.IsHalf)
        {
            WeightedSum<TVectors, TVector, BFloat16Elements>((void*)matrix.Start, matrix.Depth, count, weights, output);
        }
        else
        {
            WeightedSum<TVectors, TVector, Float32Elements>((void*)matrix.Start, matrix.Depth, count, weights, output);
        }
    }

    private static void WeightedSum<TVectors, TVector, TElements>(void* rows, nint depth, nint count, float* weights, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        nint column = 0;
        for (; column <= depth - (4 * TVectors.Width); column += 4 * TVectors.Width)
        {
            var (s0, s1, s2, s3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
            for (nint row = 0; row < count; row++)
            {
                var (weight, place) = (TVectors.Create(weights[row]), (row * depth) + column);
                s0 = TVectors.MultiplyAdd(weight, Load<TVectors, TVector, TElements>(rows, place), s0);
                s1 = TVectors.MultiplyAdd(weight, Load<TVectors, TVector, TElements>(rows, place + TVectors.Width), s1);
                s2 = TVectors.MultiplyAdd(weight, Load<TVectors, TVector, TElements>(rows, place + (2 * TVectors.Width)), s2);
                s3 = TVectors.MultiplyAdd(weight, Load<TVectors, TVector, TElements>(rows, place + (3 * TVectors.Width)), s3);
            }

            TVectors.Store(output + column, s0);
            TVectors.Store(output + column + TVectors.Width, s1);
            TVectors.Store(output + column + (2 * TVectors.Width), s2);
            TVectors.Store(output + column + (3 * TVectors.Width), s3);
        }

        for (; column <= depth - TVectors.Width; column += TVectors.Width)
        {
            var sum = TVectors.Zero;
            for (nint row = 0; row < count; row++)
            {
                sum = TVectors.MultiplyAdd(TVectors.Create(weights[row]), Load<TVectors, TVector, TElements>(rows, (row * depth) + column), sum);
            }

            TVectors.Store(output + column, sum);
        }

        for (; column < depth; column++)
        {
            var sum = 0f;
            for (nint row = 0; row < count; row++)
            {
                sum += weights[row] * Number<TElements>(rows, (row * depth) + column);
            }

            output[column] = sum;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Load<TVectors, TVector, TElements>(void* rows, nint index)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements =>
        TElements.Size == sizeof(ushort) ? TVectors.LoadHalves((ushort*)rows + index) : TVectors.Load((float*)rows + index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Number<TElements>(void* rows, nint index)
        where TElements : struct, IElements =>
        TElements.Size == sizeof(ushort) ? BitConverter.UInt32BitsToSingle((uint)((ushort*)rows)[index] << 16) : ((float*)rows)[index];
}

/// <summary>Memory layout of a matrix with contiguous rows.</summary>
/// <param name="Start">Address of the first element.</param>
/// <param name="Depth">Number of elements per row.</param>
/// <param name="IsHalf">Whether elements are bfloat16 instead of float32.</param>
/// <param name="InCache">Whether the matrix is in a cache already, so that nothing is fetched ahead.</param>
internal readonly record struct RowMatrix(nint Start, nint Depth, bool IsHalf, bool InCache = false)
{
    /// <summary>Bytes per row.</summary>
    internal nint RowBytes => Depth * (IsHalf ? sizeof(ushort) : sizeof(float));

    /// <summary>A matrix that <see cref="CpuKernel.Serves(Tensor)"/>. It must stay referenced while it is used.</summary>
    internal static unsafe RowMatrix Of(Tensor matrix) => new((nint)CpuKernel.Pointer(matrix), (nint)matrix.size(1), matrix.dtype == ScalarType.BFloat16);

    /// <summary>The matrix from a given row.</summary>
    internal RowMatrix From(nint row) => this with { Start = Start + (row * RowBytes) };
}

/// <summary>A few evenly spaced rows of float32 numbers.</summary>
/// <param name="Start">Address of the first element.</param>
/// <param name="Stride">Row stride.</param>
/// <param name="Count">Number of rows.</param>
internal readonly unsafe record struct FloatRows(nint Start, nint Stride, nint Count)
{
    /// <summary>A row.</summary>
    internal float* this[nint row] => (float*)Start + (row * Stride);

    /// <summary>The rows of a contiguous float32 tensor, [..., features]. It must stay referenced while they are used.</summary>
    internal static FloatRows Of(Tensor states) => new((nint)CpuKernel.Pointer(states), (nint)states.size(-1), (nint)(states.numel() / states.size(-1)));

    /// <summary>The rows from a given column.</summary>
    internal FloatRows From(nint column) => this with { Start = Start + (column * sizeof(float)) };

    /// <summary>The rows from a given row.</summary>
    internal FloatRows Down(nint row) => this with { Start = Start + (row * Stride * sizeof(float)), Count = Count - row };
}
