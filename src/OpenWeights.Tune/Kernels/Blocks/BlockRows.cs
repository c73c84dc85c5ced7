using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OpenWeights.Tune.Kernels.Blocks;

/// <summary>Rows of blocks of a GGUF type.</summary>
/// <typeparam name="TBlocks">The type.</typeparam>
/// <param name="start">The first block.</param>
/// <param name="depth">Values of a row, in whole blocks.</param>
/// <param name="count">Number of rows.</param>
internal sealed unsafe class BlockRows<TBlocks>(nint start, nint depth, nint count) : UnpackedRows
    where TBlocks : struct, IBlocks
{
    // Bytes that are fetched ahead at least.
    private const nint LookAhead = 12 << 10;

    private readonly nint _blocks = depth / TBlocks.Length;

    /// <inheritdoc/>
    internal override nint Depth => depth;

    /// <inheritdoc/>
    internal override nint Count => count;

    /// <inheritdoc/>
    internal override nint RowBytes { get; } = depth / TBlocks.Length * TBlocks.Bytes;

    /// <inheritdoc/>
    internal override void Read(nint first, nint rows, float* values)
    {
        var block = Row(first);
        for (nint i = 0; i < rows * _blocks; i++)
        {
            for (var line = 0; line < TBlocks.Length / IBlocks.Line; line++)
            {
                if (CpuKernel.IsWide)
                {
                    TBlocks.Values(block, line, out var low, out var high);
                    low.Store(values);
                    high.Store(values + 16);
                }
                else
                {
                    BlockVectors.Store(TBlocks.Read(block, line), values);
                }

                values += IBlocks.Line;
            }

            block += TBlocks.Bytes;
        }
    }

    private protected override bool TryOne(nint first, nint last, in FloatRows state, in FloatRows output)
    {
        if (!CpuKernel.IsWide)
        {
            return false;
        }

        var row = first;
        for (; row <= last - 4; row += 4)
        {
            Four(Row(row), state[0]).Store(output[0] + (row - first));
        }

        if (row < last && last - first >= 4)
        {
            // The last four, of which some are computed again.
            Four(Row(last - 4), state[0]).Store(output[0] + (last - 4 - first));
            return true;
        }

        for (; row < last; row++)
        {
            output[0][row - first] = Single(Row(row), state[0]);
        }

        return true;
    }

    private byte* Row(nint row) => (byte*)start + (row * RowBytes);

    // Four rows at a time, which hides the latency of the sums.
    private Vector128<float> Four(byte* block, float* state)
    {
        var (a, b, c, d, bytes) = (Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, Vector512<float>.Zero, RowBytes);
        var next = block + Math.Max(LookAhead, 4 * bytes);
        for (nint i = 0; i < _blocks; i++)
        {
            for (var line = 0; line < TBlocks.Length / IBlocks.Line; line++)
            {
                var (x, y) = (Vector512.Load(state), Vector512.Load(state + 16));
                a = Add(block, line, x, y, a);
                b = Add(block + bytes, line, x, y, b);
                c = Add(block + (2 * bytes), line, x, y, c);
                d = Add(block + (3 * bytes), line, x, y, d);
                state += IBlocks.Line;
            }

            Fetch(next);
            next += 4 * TBlocks.Bytes;
            block += TBlocks.Bytes;
        }

        return Vectors512.Sums(a, b, c, d);
    }

    private float Single(byte* block, float* state)
    {
        var sum = Vector512<float>.Zero;
        for (nint i = 0; i < _blocks; i++)
        {
            for (var line = 0; line < TBlocks.Length / IBlocks.Line; line++)
            {
                sum = Add(block, line, Vector512.Load(state), Vector512.Load(state + 16), sum);
                state += IBlocks.Line;
            }

            block += TBlocks.Bytes;
        }

        return Vectors512.Sums(sum, sum, sum, sum)[0];
    }

    // A part of following rows, into the second cache: processors prefetch at most within a page.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Fetch(byte* place)
    {
        for (var i = 0; i < 4 * TBlocks.Bytes; i += 64)
        {
            Sse.Prefetch1(place + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Add(byte* block, int line, Vector512<float> x, Vector512<float> y, Vector512<float> sum)
    {
        TBlocks.Values(block, line, out var first, out var second);
        return Vectors512.MultiplyAdd(y, second, Vectors512.MultiplyAdd(x, first, sum));
    }
}
