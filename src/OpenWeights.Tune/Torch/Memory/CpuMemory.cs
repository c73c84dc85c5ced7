namespace OpenWeights.Tune.Torch.Memory;

/// <summary>What tensors in the CPU's memory take, where blocks of them come from a pool of ours.</summary>
internal static class CpuMemory
{
    /// <summary>The bytes of large tensors: in use now, the most in use at once, and kept for reuse. Null where they come from elsewhere.</summary>
    internal static (long Live, long Peak, long Cached)? Statistics =>
#if TORCH_SYSTEM
        OperatingSystem.IsLinux() ? LibTorch.LibTorchRuntime.CpuMemory : null;
#else
        PooledHeap.Statistics;
#endif
}
