using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Applies rotary embeddings in one pass, for any memory layout of the heads.</summary>
internal static unsafe class RotaryKernel
{
    /// <summary>Whether the heads and tables are supported.</summary>
    internal static bool Serves(Tensor states, Tensor cos, Tensor sin) =>
        CpuKernel.ServesRows(states) && states.stride(-1) == 1 && states.dtype == cos.dtype && CpuKernel.Serves(cos, sin);

    /// <summary>Rotates heads, forward or in reverse.</summary>
    /// <param name="states">Queries or keys, [batch, heads, tokens, head_dim], possibly a view.</param>
    /// <param name="cos">Cosines, [batch or 1, 1, tokens, rotated dimensions / 2].</param>
    /// <param name="sin">Sines, of the same shape.</param>
    /// <param name="back">Whether to rotate in reverse, as for gradients.</param>
    /// <param name="byToken">Whether the result is stored token by token, with a token's heads adjacent; its shape is that of the states in
    /// either case.</param>
    internal static Tensor Turn(Tensor states, Tensor cos, Tensor sin, bool back, bool byToken)
    {
        var (batch, heads, tokens, width) = (states.size(0), states.size(1), states.size(2), (nint)states.size(3));
        using var scope = NewDisposeScope();
        var output = byToken ? empty([batch, tokens, heads, width], states.dtype, states.device).transpose(1, 2) : empty([batch, heads, tokens, width], states.dtype, states.device);
        var (from, to) = (states.stride(), output.stride());
        var (half, tables) = ((nint)cos.size(-1), cos.size(0) == 1 ? 0 : tokens);
        var (x, y, c, s) = ((nint)CpuKernel.Pointer(states), (nint)CpuKernel.Pointer(output), (nint)CpuKernel.Pointer(cos), (nint)CpuKernel.Pointer(sin));
        var small = states.dtype == ScalarType.BFloat16;
        CpuKernel.Run(batch * tokens, heads * width, (first, last) =>
        {
            for (var place = first; place < last; place++)
            {
                var (b, t) = (place / tokens, place % tokens);
                var table = ((b * tables) + t) * half;
                for (long h = 0; h < heads; h++)
                {
                    var (source, target) = ((b * from[0]) + (h * from[1]) + (t * from[2]), (b * to[0]) + (h * to[1]) + (t * to[2]));
                    if (small)
                    {
                        Head<BFloat16Elements>(Lanes.Row<BFloat16Elements>(x, source), Lanes.Row<BFloat16Elements>(y, target), Lanes.Row<BFloat16Elements>(c, table), Lanes.Row<BFloat16Elements>(s, table), half, width, back);
                    }
                    else
                    {
                        Head<Float32Elements>(Lanes.Row<Float32Elements>(x, source), Lanes.Row<Float32Elements>(y, target), Lanes.Row<Float32Elements>(c, table), Lanes.Row<Float32Elements>(s, table), half, width, back);
                    }
                }
            }
        });
        GC.KeepAlive((states, cos, sin));
        return output.MoveToOuterDisposeScope();
    }

    private static void Head<T>(void* x, void* y, void* cos, void* sin, nint half, nint width, bool back)
        where T : struct, IElements
    {
        var right = (byte*)x + (half * T.Size);
        var rightOut = (byte*)y + (half * T.Size);
        for (nint i = 0; i < half; i += Lanes.Width)
        {
            var (c, s) = (Lanes.Read<T>(cos, i, half), Lanes.Read<T>(sin, i, half));
            var (first, second) = (Lanes.Read<T>(x, i, half), Lanes.Read<T>(right, i, half));
            s = back ? -s : s;

            // Each product is rounded, as by separate operators.
            Lanes.Write<T>(y, i, half, T.Round(first * c) - T.Round(second * s));
            Lanes.Write<T>(rightOut, i, half, T.Round(second * c) + T.Round(first * s));
        }

        var rest = (width - (2 * half)) * T.Size;
        Buffer.MemoryCopy((byte*)x + (2 * half * T.Size), (byte*)y + (2 * half * T.Size), rest, rest);
    }
}
