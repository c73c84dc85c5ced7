using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Makes kernels use vectors of one width, and afterwards what they used before. Wide ones only where the processor has them.</summary>
internal sealed class VectorWidth : IDisposable
{
    private readonly bool _before = CpuKernel.IsWide;

    internal VectorWidth(bool wide) => CpuKernel.IsWide = wide && _before;

    public void Dispose() => CpuKernel.IsWide = _before;
}
