using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The rows of a matrix, each times the same few rows: what reading one token at a time comes down to. The matrix is read once from memory,
/// several rows of it at a time. Sums are float32.
/// </summary>
internal static unsafe class RowProduct
{
    // Rows of the matrix that are read side by side; each has a sum of its own.
    private const nint Together = 4;

    /// <summary>output[i, row] = states[i] · matrix[row], for every i and the matrix's rows from a first to before a last.</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="first">Its first row.</param>
    /// <param name="last">The row behind the last.</param>
    /// <param name="states">The few rows.</param>
    /// <param name="output">The results, of which the matrix's first row's are the first.</param>
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

    /// <summary>output = the sum over a matrix's rows of weights[row] · matrix[row].</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="count">How many of its rows.</param>
    /// <param name="weights">A number for each row.</param>
    /// <param name="output">The sum.</param>
    internal static void Mix(RowMatrix matrix, nint count, float* weights, float* output)
    {
        if (CpuKernel.IsWide)
        {
            Mix<Vectors512, Vector512<float>>(matrix, count, weights, output);
        }
        else
        {
            Mix<Vectors256, Vector256<float>>(matrix, count, weights, output);
        }
    }

    private static void Run<TVectors, TVector>(RowMatrix matrix, nint first, nint last, in FloatRows states, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        if (matrix.IsHalf)
        {
            Run<TVectors, TVector, BFloat16Elements>(matrix, first, last, states, output);
        }
        else
        {
            Run<TVectors, TVector, Float32Elements>(matrix, first, last, states, output);
        }
    }

    private static void Run<TVectors, TVector, TElements>(RowMatrix matrix, nint first, nint last, in FloatRows states, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var row = first;
        for (; row <= last - Together; row += Together)
        {
            var rows = (void*)matrix.From(row).Start;
            nint i = 0;
            for (; i <= states.Count - 2; i += 2)
            {
                Four<TVectors, TVector, TElements>(rows, matrix.Depth, states[i], states[i + 1], output[i] + row - first, output[i + 1] + row - first);
            }

            if (i < states.Count)
            {
                Four<TVectors, TVector, TElements>(rows, matrix.Depth, states[i], output[i] + row - first);
            }
        }

        for (; row < last; row++)
        {
            for (nint i = 0; i < states.Count; i++)
            {
                output[i][row - first] = One<TVectors, TVector, TElements>((void*)matrix.From(row).Start, matrix.Depth, states[i]);
            }
        }
    }

    private static void Four<TVectors, TVector, TElements>(void* rows, nint depth, float* x, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var (s0, s1, s2, s3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        nint i = 0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            var state = TVectors.Load(x + i);
            s0 = TVectors.MultiplyAdd(state, Load<TVectors, TVector, TElements>(rows, i), s0);
            s1 = TVectors.MultiplyAdd(state, Load<TVectors, TVector, TElements>(rows, depth + i), s1);
            s2 = TVectors.MultiplyAdd(state, Load<TVectors, TVector, TElements>(rows, (2 * depth) + i), s2);
            s3 = TVectors.MultiplyAdd(state, Load<TVectors, TVector, TElements>(rows, (3 * depth) + i), s3);
        }

        output[0] = TVectors.Sum(s0) + Rest<TElements>(rows, 0, i, depth, x);
        output[1] = TVectors.Sum(s1) + Rest<TElements>(rows, depth, i, depth, x);
        output[2] = TVectors.Sum(s2) + Rest<TElements>(rows, 2 * depth, i, depth, x);
        output[3] = TVectors.Sum(s3) + Rest<TElements>(rows, 3 * depth, i, depth, x);
    }

    private static void Four<TVectors, TVector, TElements>(void* rows, nint depth, float* x, float* y, float* ofX, float* ofY)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var (s0, s1, s2, s3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        var (t0, t1, t2, t3) = (TVectors.Zero, TVectors.Zero, TVectors.Zero, TVectors.Zero);
        nint i = 0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            var (first, second) = (TVectors.Load(x + i), TVectors.Load(y + i));
            var row = Load<TVectors, TVector, TElements>(rows, i);
            (s0, t0) = (TVectors.MultiplyAdd(first, row, s0), TVectors.MultiplyAdd(second, row, t0));
            row = Load<TVectors, TVector, TElements>(rows, depth + i);
            (s1, t1) = (TVectors.MultiplyAdd(first, row, s1), TVectors.MultiplyAdd(second, row, t1));
            row = Load<TVectors, TVector, TElements>(rows, (2 * depth) + i);
            (s2, t2) = (TVectors.MultiplyAdd(first, row, s2), TVectors.MultiplyAdd(second, row, t2));
            row = Load<TVectors, TVector, TElements>(rows, (3 * depth) + i);
            (s3, t3) = (TVectors.MultiplyAdd(first, row, s3), TVectors.MultiplyAdd(second, row, t3));
        }

        ofX[0] = TVectors.Sum(s0) + Rest<TElements>(rows, 0, i, depth, x);
        ofX[1] = TVectors.Sum(s1) + Rest<TElements>(rows, depth, i, depth, x);
        ofX[2] = TVectors.Sum(s2) + Rest<TElements>(rows, 2 * depth, i, depth, x);
        ofX[3] = TVectors.Sum(s3) + Rest<TElements>(rows, 3 * depth, i, depth, x);
        ofY[0] = TVectors.Sum(t0) + Rest<TElements>(rows, 0, i, depth, y);
        ofY[1] = TVectors.Sum(t1) + Rest<TElements>(rows, depth, i, depth, y);
        ofY[2] = TVectors.Sum(t2) + Rest<TElements>(rows, 2 * depth, i, depth, y);
        ofY[3] = TVectors.Sum(t3) + Rest<TElements>(rows, 3 * depth, i, depth, y);
    }

    private static float One<TVectors, TVector, TElements>(void* row, nint depth, float* x)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var (sum, i) = (TVectors.Zero, (nint)0);
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            sum = TVectors.MultiplyAdd(TVectors.Load(x + i), Load<TVectors, TVector, TElements>(row, i), sum);
        }

        return TVectors.Sum(sum) + Rest<TElements>(row, 0, i, depth, x);
    }

    private static void Mix<TVectors, TVector>(RowMatrix matrix, nint count, float* weights, float* output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        if (matrix.IsHalf)
        {
            Mix<TVectors, TVector, BFloat16Elements>((void*)matrix.Start, matrix.Depth, count, weights, output);
        }
        else
        {
            Mix<TVectors, TVector, Float32Elements>((void*)matrix.Start, matrix.Depth, count, weights, output);
        }
    }

    private static void Mix<TVectors, TVector, TElements>(void* rows, nint depth, nint count, float* weights, float* output)
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

    // What no longer fills a vector.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Rest<TElements>(void* rows, nint start, nint done, nint depth, float* x)
        where TElements : struct, IElements
    {
        var sum = 0f;
        for (var i = done; i < depth; i++)
        {
            sum += x[i] * Number<TElements>(rows, start + i);
        }

        return sum;
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
