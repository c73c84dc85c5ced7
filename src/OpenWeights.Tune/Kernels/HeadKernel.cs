using System.Runtime.Intrinsics;
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
        && ProductPrecision.Of(hidden, ProductPrecision.MinRows) == float32 && targets.is_contiguous() && targets.device.type == TorchSharp.DeviceType.CPU;

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

/// <summary>Some rows that go through the head, and where their gradients go.</summary>
/// <param name="Hidden">[rows, hidden], float32 or bfloat16, in one piece.</param>
/// <param name="Weight">[vocabulary, hidden], of the same dtype, in one piece.</param>
/// <param name="Targets">[rows], int64, in one piece.</param>
/// <param name="Multiplier">What logits are multiplied by.</param>
/// <param name="SoftCap">What they are then kept within, by c tanh(x / c); null for no limit.</param>
/// <param name="GradHidden">[rows, hidden], which is written to; null where it is not wanted.</param>
/// <param name="GradWeight">[vocabulary, hidden], float32; null where it is not wanted.</param>
/// <param name="IsFirst">Whether the weight's gradient is written to, or added to.</param>
internal readonly record struct HeadChunk(Tensor Hidden, Tensor Weight, Tensor Targets, float Multiplier, float? SoftCap, Tensor? GradHidden, Tensor? GradWeight, bool IsFirst);
