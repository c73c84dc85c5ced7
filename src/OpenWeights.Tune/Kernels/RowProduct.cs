using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products of all rows of a matrix with the same few vectors, as needed when decoding token by token. The matrix is read once,
/// sequentially. Sums are float32.
/// </summary>
internal static unsafe class RowProduct
{
    // Bytes.
    private const nint CacheLine = 64;
    private const nint LookAhead = 12 << 10;

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

    /// <summary>output[i] = sum over rows of weights[i][row] · matrix[row], for all i and a range of columns. Each is summed in the order of the rows.</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="count">Number of rows.</param>
    /// <param name="weights">Weights of the rows.</param>
    /// <param name="columns">The first column, and the end, exclusive.</param>
    /// <param name="output">The sums, of all columns.</param>
    internal static void WeightedSums(RowMatrix matrix, nint count, in FloatRows weights, (nint First, nint Last) columns, in FloatRows output)
    {
        if (CpuKernel.IsWide)
        {
            WeightedSums<Vectors512, Vector512<float>>(matrix, count, weights, columns, output);
        }
        else
        {
            WeightedSums<Vectors256, Vector256<float>>(matrix, count, weights, columns, output);
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

    private static void WeightedSums<TVectors, TVector>(RowMatrix matrix, nint count, in FloatRows weights, (nint First, nint Last) columns, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        if (matrix.IsHalf)
        {
            WeightedSums<TVectors, TVector, BFloat16Elements>(matrix, count, weights, columns, output);
        }
        else
        {
            WeightedSums<TVectors, TVector, Float32Elements>(matrix, count, weights, columns, output);
        }
    }

    // Up to four sums at once, so that a row is loaded once for them; for fewer some are computed twice.
    private static void WeightedSums<TVectors, TVector, TElements>(RowMatrix matrix, nint count, in FloatRows weights, (nint First, nint Last) columns, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        for (nint i = 0; i < weights.Count; i += 4)
        {
            var (some, sums, last) = (weights.Down(i), output.Down(i), weights.Count - i - 1);
            var column = columns.First;
            if (last == 0)
            {
                for (; column <= columns.Last - (4 * TVectors.Width); column += 4 * TVectors.Width)
                {
                    OneByFour<TVectors, TVector, TElements>(matrix, count, some[0], column, sums[0]);
                }
            }

            for (; column <= columns.Last - (2 * TVectors.Width); column += 2 * TVectors.Width)
            {
                FourByTwo<TVectors, TVector, TElements>(matrix, count, new FourWeights(some), column, sums);
            }

            for (nint j = 0; j <= Math.Min(3, last); j++)
            {
                Rest<TVectors, TVector, TElements>(matrix, count, some[j], (column, columns.Last), sums[j]);
            }
        }
    }

    private static void OneByFour<TVectors, TVector, TElements>(RowMatrix matrix, nint count, float* weights, nint column, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        void* rows = (void*)matrix.Start;
        var depth = matrix.Depth;
        var (s0, s1, s2, s3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        for (nint row = 0; row < count; row++)
        {
            var (weight, place) = (TVectors.Create(weights[row]), (row * depth) + column);
            Fetch<TElements>(rows, place, 4 * TVectors.Width);
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

    private static void FourByTwo<TVectors, TVector, TElements>(RowMatrix matrix, nint count, in FourWeights weights, nint column, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        void* rows = (void*)matrix.Start;
        var depth = matrix.Depth;
        float* a = weights.First, b = weights.Second, c = weights.Third, d = weights.Fourth;
        TVector a0 = TVectors.Zero, a1 = TVectors.Zero, b0 = TVectors.Zero, b1 = TVectors.Zero;
        TVector c0 = TVectors.Zero, c1 = TVectors.Zero, d0 = TVectors.Zero, d1 = TVectors.Zero;
        for (nint row = 0; row < count; row++)
        {
            var place = (row * depth) + column;
            Fetch<TElements>(rows, place, 2 * TVectors.Width);
            var (x0, x1) = (Load<TVectors, TVector, TElements>(rows, place), Load<TVectors, TVector, TElements>(rows, place + TVectors.Width));
            var weight = TVectors.Create(a[row]);
            a0 = TVectors.MultiplyAdd(weight, x0, a0);
            a1 = TVectors.MultiplyAdd(weight, x1, a1);
            weight = TVectors.Create(b[row]);
            b0 = TVectors.MultiplyAdd(weight, x0, b0);
            b1 = TVectors.MultiplyAdd(weight, x1, b1);
            weight = TVectors.Create(c[row]);
            c0 = TVectors.MultiplyAdd(weight, x0, c0);
            c1 = TVectors.MultiplyAdd(weight, x1, c1);
            weight = TVectors.Create(d[row]);
            d0 = TVectors.MultiplyAdd(weight, x0, d0);
            d1 = TVectors.MultiplyAdd(weight, x1, d1);
        }

        // The last of fewer sums is stored again.
        var last = output.Count - 1;
        Put<TVectors, TVector>(output[Math.Min(3, last)] + column, d0, d1);
        Put<TVectors, TVector>(output[Math.Min(2, last)] + column, c0, c1);
        Put<TVectors, TVector>(output[Math.Min(1, last)] + column, b0, b1);
        Put<TVectors, TVector>(output[0] + column, a0, a1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put<TVectors, TVector>(float* output, TVector first, TVector second)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        TVectors.Store(output, first);
        TVectors.Store(output + TVectors.Width, second);
    }

    // The columns that are left: a vector at a time, and then one by one.
    private static void Rest<TVectors, TVector, TElements>(RowMatrix matrix, nint count, float* weights, (nint First, nint Last) columns, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var (rows, depth, column) = ((nint)matrix.Start, matrix.Depth, columns.First);
        for (; column <= columns.Last - TVectors.Width; column += TVectors.Width)
        {
            var sum = TVectors.Zero;
            for (nint row = 0; row < count; row++)
            {
                sum = TVectors.MultiplyAdd(TVectors.Create(weights[row]), Load<TVectors, TVector, TElements>((void*)rows, (row * depth) + column), sum);
            }

            TVectors.Store(output + column, sum);
        }

        for (; column < columns.Last; column++)
        {
            var sum = 0f;
            for (nint row = 0; row < count; row++)
            {
                sum = MathF.FusedMultiplyAdd(weights[row], Number<TElements>((void*)rows, (row * depth) + column), sum);
            }

            output[column] = sum;
        }
    }

    // Rows that follow, in the columns of a step, into the second cache.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fetch<TElements>(void* rows, nint index, nint count)
        where TElements : struct, IElements
    {
        var place = (byte*)rows + (index * TElements.Size) + LookAhead;
        for (nint i = 0; Sse.IsSupported && i < count * TElements.Size; i += CacheLine)
        {
            Sse.Prefetch1(place + i);
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

    // Weights of four sums; where there are fewer, the last ones are the same.
    private readonly struct FourWeights(in FloatRows weights)
    {
        internal readonly float* First = weights[0];
        internal readonly float* Second = weights[Math.Min(1, weights.Count - 1)];
        internal readonly float* Third = weights[Math.Min(2, weights.Count - 1)];
        internal readonly float* Fourth = weights[Math.Min(3, weights.Count - 1)];
    }
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
