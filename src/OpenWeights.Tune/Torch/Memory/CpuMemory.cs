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

    /// <summary>Counts the peak from now on.</summary>
    internal static void ResetPeak()
    {
#if TORCH_SYSTEM
        if (OperatingSystem.IsLinux())
        {
            LibTorch.LibTorchRuntime.ResetCpuPeak();
        }
#else
        PooledHeap.ResetPeak();
#endif
    }
}
