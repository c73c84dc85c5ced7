using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// A linear layer's output for the few tokens that are read at once while a text is generated: the weight is read once from memory, where
/// BLAS packs it first. float32 or bfloat16, summed in float32.
/// </summary>
internal static class FewRowsProduct
{
    /// <summary>From more rows on BLAS makes up for its packing.</summary>
    internal const long MaxRows = 4;

    /// <summary>Whether a product is computed here: few rows on the CPU, of the weight's dtype.</summary>
    internal static bool Serves(Tensor input, Tensor weight) =>
        input.numel() > 0 && input.numel() <= MaxRows * input.size(-1) && CpuKernel.Serves(input, weight) && BitConverter.IsLittleEndian;

    /// <summary>x Wᵀ + b without a graph, [..., out], of the input's dtype.</summary>
    /// <param name="input">[..., in].</param>
    /// <param name="weight">[out, in], of the input's dtype.</param>
    /// <param name="bias">[out], or null.</param>
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
