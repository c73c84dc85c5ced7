using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Logits of some rows, their cross entropy and its gradients, one vocabulary block at a time. The head's weight is used in its original
/// layout, whereas BLAS would repack all of it for each chunk of rows; a block's logits are in the cache while their exponentials
/// are computed. Sums are float32 for every dtype.
/// </summary>
internal static class HeadKernel
{
    /// <summary>Whether the kernel supports these inputs.</summary>
    /// <param name="hidden">Hidden states, [rows, hidden].</param>
    /// <param name="weight">Weight of the head, [vocabulary, hidden].</param>
    /// <param name="targets">Target ids, [rows], int64.</param>
    internal static bool Serves(Tensor hidden, Tensor weight, Tensor targets) =>
        CpuKernel.Serves(hidden, weight) && hidden.size(1) % Vector512<float>.Count == 0 && hidden.numel() > 0 && weight.numel() > 0
        && ProductPrecision.Of(hidden, ProductPrecision.MinRows) == float32 && targets.is_contiguous() && targets.device.type == TorchSharp.DeviceType.CPU;

    /// <summary>Writes a chunk's part of the rows' gradient, and accumulates its part of the weight's.</summary>
    /// <param name="chunk">The rows and outputs.</param>
    /// <returns>Summed cross entropy of the rows.</returns>
    internal static double Run(in HeadChunk chunk)
    {
        using var scope = NewDisposeScope();
        return CpuKernel.IsWide
            ? new HeadBlocks<Vectors512, Vector512<float>>(chunk).Run()
            : new HeadBlocks<Vectors256, Vector256<float>>(chunk).Run();
    }
}

/// <summary>A chunk of rows for the output head, and the destinations of gradients.</summary>
/// <param name="Hidden">Hidden states, [rows, hidden], float32 or bfloat16, contiguous.</param>
/// <param name="Weight">Weight of the head, [vocabulary, hidden], of the same dtype, contiguous.</param>
/// <param name="Targets">Target ids, [rows], int64, contiguous.</param>
/// <param name="Multiplier">Factor of the logits.</param>
/// <param name="SoftCap">Soft cap c in c tanh(x / c), applied after the factor; null for none.</param>
/// <param name="GradHidden">Destination of the rows' gradient, [rows, hidden]; null if not needed.</param>
/// <param name="GradWeight">Destination of the weight's gradient, [vocabulary, hidden], float32; null if not needed.</param>
/// <param name="IsFirst">Whether the weight's gradient is overwritten rather than added to.</param>
internal readonly record struct HeadChunk(Tensor Hidden, Tensor Weight, Tensor Targets, float Multiplier, float? SoftCap, Tensor? GradHidden, Tensor? GradWeight, bool IsFirst);
