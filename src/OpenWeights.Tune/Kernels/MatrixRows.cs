using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels;

/// <summary>The rows of a weight in memory, in whatever form they are stored, and their products with a few vectors.</summary>
internal abstract unsafe class MatrixRows
{
    /// <summary>Elements of a row.</summary>
    internal abstract nint Depth { get; }

    /// <summary>Number of rows.</summary>
    internal abstract nint Count { get; }

    /// <summary>Bytes of a row, about.</summary>
    internal abstract nint RowBytes { get; }

    /// <summary>output[i, row] = states[i] · matrix[row], for all i and a range of rows, on the calling thread.</summary>
    /// <param name="first">First row.</param>
    /// <param name="last">End row, exclusive.</param>
    /// <param name="states">The vectors.</param>
    /// <param name="output">The results; those of the first row come first.</param>
    internal abstract void Multiply(nint first, nint last, in FloatRows states, in FloatRows output);

    /// <summary>Fetches a row and some more behind it into the second cache of the calling thread's processor, if that pays.</summary>
    /// <param name="row">The row.</param>
    internal virtual void Fetch(nint row)
    {
        // Packed rows take longer to compute than to read.
    }

    /// <summary>Reads rows as float32.</summary>
    /// <param name="first">First row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="values">Receives the values, row by row.</param>
    internal abstract void Read(nint first, nint rows, float* values);
}

/// <summary>Rows of numbers.</summary>
/// <param name="matrix">The numbers.</param>
/// <param name="count">Number of rows.</param>
internal sealed unsafe class PlainRows(RowMatrix matrix, nint count) : MatrixRows
{
    // Bytes: about what a thread reads while another does what only one can do between two stages.
    private const nint Fetched = 1 << 14;
    private const nint CacheLine = 64;

    /// <inheritdoc/>
    internal override nint Depth => matrix.Depth;

    /// <inheritdoc/>
    internal override nint Count => count;

    /// <inheritdoc/>
    internal override nint RowBytes => matrix.RowBytes;

    /// <inheritdoc/>
    internal override void Multiply(nint first, nint last, in FloatRows states, in FloatRows output) => RowProduct.Run(matrix, first, last, states, output);

    /// <inheritdoc/>
    internal override void Fetch(nint row)
    {
        var start = (byte*)matrix.From(row).Start;
        for (nint i = 0; Sse.IsSupported && i < Math.Min(Fetched, (count - row) * matrix.RowBytes); i += CacheLine)
        {
            Sse.Prefetch1(start + i);
        }
    }

    /// <inheritdoc/>
    internal override void Read(nint first, nint rows, float* values)
    {
        var count = rows * matrix.Depth;
        var from = (void*)matrix.From(first).Start;
        for (nint i = 0; matrix.IsHalf && i < count; i += Lanes.Width)
        {
            Lanes.Write<Float32Elements>(values, i, count, Lanes.Read<BFloat16Elements>(from, i, count));
        }

        if (!matrix.IsHalf)
        {
            Buffer.MemoryCopy(from, values, count * sizeof(float), count * sizeof(float));
        }
    }
}

/// <summary>Weights one below the other.</summary>
/// <param name="pieces">The weights, with rows of one length.</param>
internal sealed unsafe class StackedRows(IReadOnlyList<MatrixRows> pieces) : MatrixRows
{
    /// <inheritdoc/>
    internal override nint Depth => pieces[0].Depth;

    /// <inheritdoc/>
    internal override nint Count { get; } = pieces.Aggregate((nint)0, static (sum, piece) => sum + piece.Count);

    /// <inheritdoc/>
    internal override nint RowBytes => pieces[0].RowBytes;

    /// <inheritdoc/>
    internal override void Multiply(nint first, nint last, in FloatRows states, in FloatRows output)
    {
        var above = (nint)0;
        foreach (var piece in pieces)
        {
            var (from, end) = (Math.Max(first, above), Math.Min(last, above + piece.Count));
            if (from < end)
            {
                piece.Multiply(from - above, end - above, states, output.From(from - first));
            }

            above += piece.Count;
        }
    }

    /// <inheritdoc/>
    internal override void Read(nint first, nint rows, float* values)
    {
        var above = (nint)0;
        foreach (var piece in pieces)
        {
            var (from, end) = (Math.Max(first, above), Math.Min(first + rows, above + piece.Count));
            if (from < end)
            {
                piece.Read(from - above, end - from, values + ((from - first) * Depth));
            }

            above += piece.Count;
        }
    }
}

/// <summary>
/// Packed rows. For one vector they are multiplied as they are unpacked, in registers, where the processor has AVX-512; otherwise a few rows at a time are
/// unpacked into a processor's cache and multiplied there. Memory is read packed either way, and the values are those of the unpacked weight.
/// </summary>
internal abstract unsafe class UnpackedRows : MatrixRows
{
    // Unpacked at once: half of a first cache, and at least the rows of a tile.
    private const nint BufferElements = 1 << 12;
    private const nint TileRows = 4;

    [ThreadStatic]
    private static Scratch? s_rows;

    [ThreadStatic]
    private static Scratch? s_states;

    /// <inheritdoc/>
    internal override void Multiply(nint first, nint last, in FloatRows states, in FloatRows output)
    {
        if (states.Count == 0 || first >= last)
        {
            return;
        }

        var ordered = Ordered(states);
        if (states.Count > 1 || !TryOne(first, last, ordered, output))
        {
            var most = Math.Max(TileRows, BufferElements / Depth / TileRows * TileRows);
            var buffer = (s_rows ??= new Scratch()).Of(most * Depth);
            for (var row = first; row < last; row += most)
            {
                var rows = Math.Min(most, last - row);
                ReadOrdered(row, rows, buffer);
                RowProduct.Run(new RowMatrix((nint)buffer, Depth, IsHalf: false, InCache: true), 0, rows, ordered, output.From(row - first));
            }
        }
    }

    /// <summary>The vectors in the order in which <see cref="ReadOrdered"/> and <see cref="TryOne"/> have the elements of a row.</summary>
    private protected virtual FloatRows Ordered(in FloatRows states) => states;

    /// <summary>As <see cref="MatrixRows.Read"/>, in an order of the columns that is quick.</summary>
    private protected virtual void ReadOrdered(nint first, nint rows, float* values) => Read(first, rows, values);

    /// <summary>Multiplies rows with one vector in registers; false if that is not done for these.</summary>
    private protected virtual bool TryOne(nint first, nint last, in FloatRows state, in FloatRows output) => false;

    /// <summary>Memory for the vectors in another order, of the calling thread.</summary>
    private protected static float* States(nint count) => (s_states ??= new Scratch()).Of(count);

    /// <summary>Memory that a thread uses again and again.</summary>
    private sealed class Scratch
    {
        private float* _start;
        private nint _count;

        ~Scratch() => NativeMemory.AlignedFree(_start);

        internal float* Of(nint count)
        {
            if (count > _count)
            {
                NativeMemory.AlignedFree(_start);
                _start = (float*)NativeMemory.AlignedAlloc((nuint)(count * sizeof(float)), 64);
                _count = count;
            }

            return _start;
        }
    }
}
