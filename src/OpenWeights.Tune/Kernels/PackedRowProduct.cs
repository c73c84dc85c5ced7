using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>Products of a packed matrix with a few vectors: rows are unpacked into a processor's cache and multiplied there, so that memory is read packed.</summary>
internal static unsafe class PackedRowProduct
{
    // Unpacked at once: half of a first cache.
    private const nint BufferElements = 1 << 12;

    /// <summary>output[i, row] = states[i] · matrix[row], for all i and rows.</summary>
    /// <param name="matrix">The matrix.</param>
    /// <param name="perRow">Rows of codes of a row of the matrix.</param>
    /// <param name="states">The vectors.</param>
    /// <param name="output">The results.</param>
    internal static void Run(PackedRows matrix, nint perRow, FloatRows states, FloatRows output)
    {
        var depth = states.Stride;
        CpuKernel.Run(output.Stride, depth, (first, last) =>
        {
            var most = Math.Max(1, BufferElements / depth);
            var buffer = NativeMemory.AlignedAlloc((nuint)(most * depth * sizeof(float)), 64);
            try
            {
                for (var row = (nint)first; row < last; row += most)
                {
                    var rows = Math.Min(most, (nint)last - row);
                    UnpackKernel.Read(matrix, row * perRow, rows * perRow, (float*)buffer);
                    RowProduct.Run(new RowMatrix((nint)buffer, depth, IsHalf: false), 0, rows, states, output.From(row));
                }
            }
            finally
            {
                NativeMemory.AlignedFree(buffer);
            }
        });
    }
}
