using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Output of a linear layer for the few tokens processed at once during generation: the weight is read once from memory, whereas BLAS
/// packs it first. float32 or bfloat16, accumulated in float32.
/// </summary>
internal static class FewRowsProduct
{
    /// <summary>From this number of rows BLAS is faster despite packing.</summary>
    internal const long MaxRows = 16;

    /// <summary>Whether a product is supported: few rows on the CPU, in the weight's dtype.</summary>
    internal static bool Serves(Tensor input, Tensor weight) =>
        input.numel() > 0 && input.numel() <= MaxRows * input.size(-1) && CpuKernel.Serves(input, weight) && BitConverter.IsLittleEndian;

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
}
