using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Output of a linear layer for the few tokens processed at once during generation: the weight is read once from memory, whereas BLAS
/// packs it first. float32 or bfloat16, accumulated in float32.
/// </summary>
internal static class FewRowsProduct
{
    /// <summary>Up to so many rows products can be computed so for the sake of their sums (<see cref="SameSums"/>).</summary>
    internal const int MaxRows = 16;

    // From this number of rows BLAS is faster despite packing.
    private const long UsualRows = 4;

    [ThreadStatic]
    private static bool s_wantsSameSums;

    /// <summary>
    /// Until the result is disposed, products of up to <see cref="MaxRows"/> rows on this thread are computed so: a row's sums are then the same however many
    /// rows there are.
    /// </summary>
    internal static IDisposable SameSums() => new Wanted();

    /// <summary>Whether a product is supported: few rows on the CPU, in the weight's dtype.</summary>
    internal static bool Serves(Tensor input, Tensor weight) =>
        input.numel() > 0 && input.numel() <= (s_wantsSameSums ? MaxRows : UsualRows) * input.size(-1) && CpuKernel.Serves(input, weight) && BitConverter.IsLittleEndian;

    /// <summary>x Wᵀ + b without autograd, [..., out], in the input's dtype.</summary>
    /// <param name="input">The input, [..., in].</param>
    /// <param name="weight">The weight, [out, in], in the input's dtype.</param>
    /// <param name="bias">The bias, [out], or null.</param>
    internal static Tensor Linear(Tensor input, Tensor weight, Tensor? bias)
    {
        if (!Serves(input, weight))
        {
            return nn.functional.linear(input, weight, bias);
        }

        using var scope = NewDisposeScope();
        var states = input.detach().to(float32);
        var sums = empty([.. input.shape[..^1], weight.size(0)], float32, weight.device);
        var (matrix, rows, results) = (RowMatrix.Of(weight), FloatRows.Of(states), FloatRows.Of(sums));
        CpuKernel.Run(results.Stride, matrix.Depth, (first, last) => RowProduct.Run(matrix, (nint)first, (nint)last, rows, results.From((nint)first)));
        GC.KeepAlive((states, weight));
        var output = sums.to(weight.dtype);
        return (bias is null ? output : output.PlusInPlace(bias.detach())).MoveToOuterDisposeScope();
    }

    private sealed class Wanted : IDisposable
    {
        private readonly bool _before = s_wantsSameSums;

        internal Wanted() => s_wantsSameSums = true;

        public void Dispose() => s_wantsSameSums = _before;
    }
}
