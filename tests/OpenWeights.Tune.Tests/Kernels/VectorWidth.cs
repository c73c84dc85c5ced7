using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Makes kernels use vectors of one width, and afterwards what they used before. Wide ones only where the processor has them.</summary>
internal sealed class VectorWidth : IDisposable
{
    private readonly (bool Wide, bool LooksUp) _before = (CpuKernel.IsWide, CpuKernel.LooksUp);

    internal VectorWidth(bool wide, bool looksUp = true) => (CpuKernel.IsWide, CpuKernel.LooksUp) = (wide && _before.Wide, looksUp && _before.LooksUp);

    public void Dispose() => (CpuKernel.IsWide, CpuKernel.LooksUp) = _before;
}
