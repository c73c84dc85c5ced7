using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Tiles of the product of a matrix' rows with several vectors: what is loaded of a row is multiplied with all vectors of the tile while it is in
/// a register, and what is loaded of a vector with all its rows. Every result is summed in the same order whatever the tile, so that a text's
/// tokens do not depend on what else is computed beside it.
/// </summary>
internal static unsafe class RowTiles
{
    // What follows is fetched while a tile is computed: the same place some tiles later, at least as many bytes ahead; of longer tiles as many in each row.
    private const nint FetchedTile = 24 << 10;
    private const nint LookAhead = 12 << 10;

    /// <summary>output[i, row] = states[i] · matrix[row], for all i and a range of rows.</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="first">First row.</param>
    /// <param name="last">End row, exclusive.</param>
    /// <param name="states">The vectors.</param>
    /// <param name="output">The results; those of the first row come first.</param>
    internal static void Run<TVectors, TVector, TElements>(RowMatrix matrix, nint first, nint last, in FloatRows states, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        // The sums of four rows and four vectors fill the 32 registers of AVX-512; there are 16 otherwise.
        var (row, atOnce) = (first, states.Count >= 4 && TVectors.Width < 16 ? 2 : 4);
        for (; row <= last - atOnce; row += atOnce)
        {
            Rows<TVectors, TVector, TElements>((byte*)matrix.From(row).Start, matrix, states, output.From(row - first), atOnce);
        }

        if (row < last && last - first >= atOnce)
        {
            // The last ones, of which some are computed again.
            Rows<TVectors, TVector, TElements>((byte*)matrix.From(last - atOnce).Start, matrix, states, output.From(last - atOnce - first), atOnce);
            return;
        }

        for (; row < last; row++)
        {
            for (nint i = 0; i < states.Count; i++)
            {
                OneByOne<TVectors, TVector, TElements>((byte*)matrix.From(row).Start, 0, matrix.Depth, states.Down(i), output.Down(i).From(row - first));
            }
        }
    }

    private static void Rows<TVectors, TVector, TElements>(byte* row, RowMatrix matrix, in FloatRows states, in FloatRows output, nint atOnce)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        var (i, bytes, depth) = ((nint)0, matrix.RowBytes, matrix.Depth);
        var ahead = matrix.InCache ? 0 : Ahead(bytes, atOnce);
        for (; i <= states.Count - 4; i += 4)
        {
            if (atOnce == 4)
            {
                FourByFour<TVectors, TVector, TElements>(row, bytes, depth, states.Down(i), output.Down(i), i == 0 ? ahead : 0);
            }
            else
            {
                TwoByFour<TVectors, TVector, TElements>(row, bytes, depth, states.Down(i), output.Down(i), i == 0 ? ahead : 0);
            }
        }

        for (; i < states.Count; i++)
        {
            if (atOnce == 4 && i + 1 < states.Count)
            {
                FourByTwo<TVectors, TVector, TElements>(row, bytes, depth, states.Down(i), output.Down(i), i == 0 ? ahead : 0);
                i++;
            }
            else if (atOnce == 4)
            {
                FourByOne<TVectors, TVector, TElements>(row, bytes, depth, states.Down(i), output.Down(i), i == 0 ? ahead : 0);
            }
            else
            {
                OneByOne<TVectors, TVector, TElements>(row, 0, depth, states.Down(i), output.Down(i));
                OneByOne<TVectors, TVector, TElements>(row + bytes, 0, depth, states.Down(i), output.Down(i).From(1));
            }
        }
    }

    [SkipLocalsInit]
    private static void OneByOne<TVectors, TVector, TElements>(byte* row, nint rowBytes, nint depth, in FloatRows states, in FloatRows output)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        float* x0 = states[0];
        TVector a0 = TVectors.Zero;
        var i = (nint)0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            var a = Load<TVectors, TVector, TElements>(row, i);
            var x = TVectors.Load(x0 + i);
            a0 = TVectors.MultiplyAdd(x, a, a0);
        }

        var sums = stackalloc float[4];
        TVectors.Sums(a0, a0, a0, a0).Store(sums);
        Put<TElements>(sums, new Tile(row, rowBytes, 1, 1), (i, depth), states, output);
    }

    [SkipLocalsInit]
    private static void FourByOne<TVectors, TVector, TElements>(byte* row, nint rowBytes, nint depth, in FloatRows states, in FloatRows output, nint ahead)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        byte* second = row + rowBytes, third = second + rowBytes, fourth = third + rowBytes;
        float* x0 = states[0];
        TVector a0 = TVectors.Zero;
        TVector b0 = TVectors.Zero;
        TVector c0 = TVectors.Zero;
        TVector d0 = TVectors.Zero;
        var i = (nint)0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            Fetch<TElements>(row, i, ahead);
            var a = Load<TVectors, TVector, TElements>(row, i);
            Fetch<TElements>(second, i, ahead);
            var b = Load<TVectors, TVector, TElements>(second, i);
            Fetch<TElements>(third, i, ahead);
            var c = Load<TVectors, TVector, TElements>(third, i);
            Fetch<TElements>(fourth, i, ahead);
            var d = Load<TVectors, TVector, TElements>(fourth, i);
            var x = TVectors.Load(x0 + i);
            a0 = TVectors.MultiplyAdd(x, a, a0);
            b0 = TVectors.MultiplyAdd(x, b, b0);
            c0 = TVectors.MultiplyAdd(x, c, c0);
            d0 = TVectors.MultiplyAdd(x, d, d0);
        }

        if (i == depth)
        {
            TVectors.Sums(a0, b0, c0, d0).Store(output[0]);
            return;
        }

        var sums = stackalloc float[16];
        TVectors.Sums(a0, a0, a0, a0).Store(sums);
        TVectors.Sums(b0, b0, b0, b0).Store(sums + 4);
        TVectors.Sums(c0, c0, c0, c0).Store(sums + 8);
        TVectors.Sums(d0, d0, d0, d0).Store(sums + 12);
        Put<TElements>(sums, new Tile(row, rowBytes, 4, 1), (i, depth), states, output);
    }

    [SkipLocalsInit]
    private static void FourByTwo<TVectors, TVector, TElements>(byte* row, nint rowBytes, nint depth, in FloatRows states, in FloatRows output, nint ahead)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        byte* second = row + rowBytes, third = second + rowBytes, fourth = third + rowBytes;
        float* x0 = states[0], x1 = states[1];
        TVector a0 = TVectors.Zero, a1 = TVectors.Zero;
        TVector b0 = TVectors.Zero, b1 = TVectors.Zero;
        TVector c0 = TVectors.Zero, c1 = TVectors.Zero;
        TVector d0 = TVectors.Zero, d1 = TVectors.Zero;
        var i = (nint)0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            Fetch<TElements>(row, i, ahead);
            var a = Load<TVectors, TVector, TElements>(row, i);
            Fetch<TElements>(second, i, ahead);
            var b = Load<TVectors, TVector, TElements>(second, i);
            Fetch<TElements>(third, i, ahead);
            var c = Load<TVectors, TVector, TElements>(third, i);
            Fetch<TElements>(fourth, i, ahead);
            var d = Load<TVectors, TVector, TElements>(fourth, i);
            var x = TVectors.Load(x0 + i);
            a0 = TVectors.MultiplyAdd(x, a, a0);
            b0 = TVectors.MultiplyAdd(x, b, b0);
            c0 = TVectors.MultiplyAdd(x, c, c0);
            d0 = TVectors.MultiplyAdd(x, d, d0);
            x = TVectors.Load(x1 + i);
            a1 = TVectors.MultiplyAdd(x, a, a1);
            b1 = TVectors.MultiplyAdd(x, b, b1);
            c1 = TVectors.MultiplyAdd(x, c, c1);
            d1 = TVectors.MultiplyAdd(x, d, d1);
        }

        var sums = stackalloc float[16];
        TVectors.Sums(a0, a1, a1, a1).Store(sums);
        TVectors.Sums(b0, b1, b1, b1).Store(sums + 4);
        TVectors.Sums(c0, c1, c1, c1).Store(sums + 8);
        TVectors.Sums(d0, d1, d1, d1).Store(sums + 12);
        Put<TElements>(sums, new Tile(row, rowBytes, 4, 2), (i, depth), states, output);
    }

    [SkipLocalsInit]
    private static void TwoByFour<TVectors, TVector, TElements>(byte* row, nint rowBytes, nint depth, in FloatRows states, in FloatRows output, nint ahead)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        byte* second = row + rowBytes;
        float* x0 = states[0], x1 = states[1], x2 = states[2], x3 = states[3];
        TVector a0 = TVectors.Zero, a1 = TVectors.Zero, a2 = TVectors.Zero, a3 = TVectors.Zero;
        TVector b0 = TVectors.Zero, b1 = TVectors.Zero, b2 = TVectors.Zero, b3 = TVectors.Zero;
        var i = (nint)0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            Fetch<TElements>(row, i, ahead);
            var a = Load<TVectors, TVector, TElements>(row, i);
            Fetch<TElements>(second, i, ahead);
            var b = Load<TVectors, TVector, TElements>(second, i);
            var x = TVectors.Load(x0 + i);
            a0 = TVectors.MultiplyAdd(x, a, a0);
            b0 = TVectors.MultiplyAdd(x, b, b0);
            x = TVectors.Load(x1 + i);
            a1 = TVectors.MultiplyAdd(x, a, a1);
            b1 = TVectors.MultiplyAdd(x, b, b1);
            x = TVectors.Load(x2 + i);
            a2 = TVectors.MultiplyAdd(x, a, a2);
            b2 = TVectors.MultiplyAdd(x, b, b2);
            x = TVectors.Load(x3 + i);
            a3 = TVectors.MultiplyAdd(x, a, a3);
            b3 = TVectors.MultiplyAdd(x, b, b3);
        }

        var sums = stackalloc float[8];
        TVectors.Sums(a0, a1, a2, a3).Store(sums);
        TVectors.Sums(b0, b1, b2, b3).Store(sums + 4);
        Put<TElements>(sums, new Tile(row, rowBytes, 2, 4), (i, depth), states, output);
    }

    [SkipLocalsInit]
    private static void FourByFour<TVectors, TVector, TElements>(byte* row, nint rowBytes, nint depth, in FloatRows states, in FloatRows output, nint ahead)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements
    {
        byte* second = row + rowBytes, third = second + rowBytes, fourth = third + rowBytes;
        float* x0 = states[0], x1 = states[1], x2 = states[2], x3 = states[3];
        TVector a0 = TVectors.Zero, a1 = TVectors.Zero, a2 = TVectors.Zero, a3 = TVectors.Zero;
        TVector b0 = TVectors.Zero, b1 = TVectors.Zero, b2 = TVectors.Zero, b3 = TVectors.Zero;
        TVector c0 = TVectors.Zero, c1 = TVectors.Zero, c2 = TVectors.Zero, c3 = TVectors.Zero;
        TVector d0 = TVectors.Zero, d1 = TVectors.Zero, d2 = TVectors.Zero, d3 = TVectors.Zero;
        var i = (nint)0;
        for (; i <= depth - TVectors.Width; i += TVectors.Width)
        {
            Fetch<TElements>(row, i, ahead);
            var a = Load<TVectors, TVector, TElements>(row, i);
            Fetch<TElements>(second, i, ahead);
            var b = Load<TVectors, TVector, TElements>(second, i);
            Fetch<TElements>(third, i, ahead);
            var c = Load<TVectors, TVector, TElements>(third, i);
            Fetch<TElements>(fourth, i, ahead);
            var d = Load<TVectors, TVector, TElements>(fourth, i);
            var x = TVectors.Load(x0 + i);
            a0 = TVectors.MultiplyAdd(x, a, a0);
            b0 = TVectors.MultiplyAdd(x, b, b0);
            c0 = TVectors.MultiplyAdd(x, c, c0);
            d0 = TVectors.MultiplyAdd(x, d, d0);
            x = TVectors.Load(x1 + i);
            a1 = TVectors.MultiplyAdd(x, a, a1);
            b1 = TVectors.MultiplyAdd(x, b, b1);
            c1 = TVectors.MultiplyAdd(x, c, c1);
            d1 = TVectors.MultiplyAdd(x, d, d1);
            x = TVectors.Load(x2 + i);
            a2 = TVectors.MultiplyAdd(x, a, a2);
            b2 = TVectors.MultiplyAdd(x, b, b2);
            c2 = TVectors.MultiplyAdd(x, c, c2);
            d2 = TVectors.MultiplyAdd(x, d, d2);
            x = TVectors.Load(x3 + i);
            a3 = TVectors.MultiplyAdd(x, a, a3);
            b3 = TVectors.MultiplyAdd(x, b, b3);
            c3 = TVectors.MultiplyAdd(x, c, c3);
            d3 = TVectors.MultiplyAdd(x, d, d3);
        }

        var sums = stackalloc float[16];
        TVectors.Sums(a0, a1, a2, a3).Store(sums);
        TVectors.Sums(b0, b1, b2, b3).Store(sums + 4);
        TVectors.Sums(c0, c1, c2, c3).Store(sums + 8);
        TVectors.Sums(d0, d1, d2, d3).Store(sums + 12);
        Put<TElements>(sums, new Tile(row, rowBytes, 4, 4), (i, depth), states, output);
    }

    // The results of a tile: its sums, and the products of the elements that filled no vector. It is called when the sums are in memory: those that are still in
    // registers at a call would be stored at every step of the loop.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Put<TElements>(float* sums, in Tile tile, (nint Done, nint Depth) columns, in FloatRows states, in FloatRows output)
        where TElements : struct, IElements
    {
        for (nint row = 0; row < tile.Rows; row++)
        {
            for (nint i = 0; i < tile.States; i++)
            {
                var sum = sums[(4 * row) + i];
                output[i][row] = columns.Done < columns.Depth ? sum + Rest<TElements>(tile.First + (row * tile.RowBytes), columns.Done, columns.Depth, states[i]) : sum;
            }
        }
    }

    private static float Rest<TElements>(byte* row, nint done, nint depth, float* x)
        where TElements : struct, IElements
    {
        var sum = 0f;
        for (var i = done; i < depth; i++)
        {
            sum += x[i] * (TElements.Size == sizeof(ushort) ? BitConverter.UInt32BitsToSingle((uint)((ushort*)row)[i] << 16) : ((float*)row)[i]);
        }

        return sum;
    }

    // Into the second cache: many more lines can be on their way there than to the first, twice as many bytes a second on Zen 4.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fetch<TElements>(byte* row, nint index, nint ahead)
        where TElements : struct, IElements
    {
        // Of what is in a cache nothing is fetched: that would take the place of loads.
        if (Sse.IsSupported && ahead != 0)
        {
            Sse.Prefetch1(row + (index * TElements.Size) + ahead);
        }
    }

    private static nint Ahead(nint rowBytes, nint rows) => rows * rowBytes <= FetchedTile ? (LookAhead + (rows * rowBytes) - 1) / (rows * rowBytes) * rows * rowBytes : LookAhead;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Load<TVectors, TVector, TElements>(byte* row, nint index)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
        where TElements : struct, IElements =>
        TElements.Size == sizeof(ushort) ? TVectors.LoadHalves((ushort*)row + index) : TVectors.Load((float*)row + index);

    private readonly struct Tile(byte* first, nint rowBytes, nint rows, nint states)
    {
        internal byte* First => first;

        internal nint RowBytes => rowBytes;

        internal nint Rows => rows;

        internal nint States => states;
    }
}
