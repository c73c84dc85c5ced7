using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A part whose composition the library has beside its kernel, for devices and dtypes that the kernel does not serve.</summary>
public abstract class KernelPart : Part
{
    /// <inheritdoc/>
    internal override string Unit => "GB/s";

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition()
    {
        CpuKernel.Enabled = false;
        try
        {
            return Own();
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }
}
