using System.Runtime.Intrinsics;
using OpenWeights.Tune.Models.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The scores of some rows, their cross entropy and its gradients, a block of the vocabulary at a time: the head's weight is multiplied as it
/// lies, where BLAS would lay the whole of it out anew for each chunk of rows, and a block's scores are in the cache while its exponentials
/// are made. Sums are float32 whatever the dtype.
/// </summary>
internal static class HeadKernel
{
    /// <summary>Whether a head can be computed here.</summary>
    /// <param name="hidden">[rows, hidden].</param>
    /// <param name="weight">[vocabulary, hidden].</param>
    /// <param name="targets">[rows], int64.</param>
    internal static bool Serves(Tensor hidden, Tensor weight, Tensor targets) =>
        CpuKernel.Serves(hidden, weight) && hidden.size(1) % Vector512<float>.Count == 0 && hidden.numel() > 0 && weight.numel() > 0
        && ProductPrecision.Of(hidden, ProductPrecision.LeastRows) == float32 && targets.is_contiguous() && targets.device.type == TorchSharp.DeviceType.CPU;

    /// <summary>Writes a chunk's part of the rows' gradient, and adds its part of the weight's.</summary>
    /// <param name="chunk">The rows and what becomes of them.</param>
    /// <returns>The summed cross entropy of the rows.</returns>
    internal static double Run(in HeadChunk chunk)
    {
        using var scope = NewDisposeScope();
        return CpuKernel.IsWide
            ? new HeadBlocks<Vectors512, Vector512<float>>(chunk).Run()
            : new HeadBlocks<Vectors256, Vector256<float>>(chunk).Run();
    }
}
