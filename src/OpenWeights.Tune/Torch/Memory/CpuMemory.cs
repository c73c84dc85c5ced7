namespace OpenWeights.Tune.Torch.Memory;

/// <summary>CPU memory of tensors, if their blocks come from a pool of this program.</summary>
internal static class CpuMemory
{
    /// <summary>Bytes of large tensors: in use, peak, and kept for reuse. Null if they do not come from a pool.</summary>
    internal static (long Live, long Peak, long Cached)? Statistics =>
#if TORCH_SYSTEM
        OperatingSystem.IsLinux() ? LibTorch.LibTorchRuntime.CpuMemory : null;
#else
        PooledHeap.Statistics;
#endif
}
