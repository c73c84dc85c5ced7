using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// Makes a packaged libtorch allocate large blocks of CPU memory from a <see cref="BlockPool"/>. libc10 calls the C library's
/// posix_memalign and free; those two entries of its import table are set to the functions here. They are plain C, independent of the
/// layout of libtorch's classes, and an allocation failure becomes libtorch's own error. Measurements: docs/performance.md. The environment
/// variable
/// OWT_PLAIN_HEAP disables the pool.
/// </summary>
internal static unsafe partial class PooledHeap
{
    private const int OutOfMemory = 12;
    private const int MmapThreshold = -3;
    private const int TrimThreshold = -1;
    private const int TopPad = -2;

    private static BlockPool? s_pool;
    private static bool s_serves;

    /// <summary>Bytes of large CPU tensors: in use, peak, and kept for reuse. Null if the pool is not used.</summary>
    internal static (long Live, long Peak, long Cached)? Statistics => s_serves ? s_pool?.Statistics : null;

    /// <summary>Resets the peak of <see cref="Statistics"/> to the bytes in use.</summary>
    internal static void ResetPeak() => s_pool?.ResetPeak();

    /// <summary>
    /// Redirects the allocations of a libc10, on Linux with the GNU C library; returns whether it did. Existing blocks are not affected.
    /// </summary>
    /// <param name="c10">Handle of libc10.</param>
    internal static bool TakeOver(nint c10)
    {
        if (s_pool is not null || Environment.GetEnvironmentVariable("OWT_PLAIN_HEAP") is { Length: > 0 } || !OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture is not (Architecture.X64 or Architecture.Arm64)
            || !NativeLibrary.TryLoad("libc.so.6", out var libc) || !NativeLibrary.TryGetExport(libc, "gnu_get_libc_version", out _))
        {
            return false;
        }

        var (takes, frees) = (ImportTable.Find(c10, "posix_memalign"), ImportTable.Find(c10, "free"));
        if (takes.Count == 0 || frees.Count == 0)
        {
            return false;
        }

        // Small blocks, and BLAS's buffers, stay with the C library.
        _ = mallopt(MmapThreshold, 32 << 20);
        _ = mallopt(TrimThreshold, 1 << 30);
        _ = mallopt(TopPad, 16 << 20);
        var pool = s_pool = new BlockPool(new LinuxPages(), 2 * GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        if (!ImportTable.Set(frees, (nint)(delegate* unmanaged<nint, void>)&Free) || !ImportTable.Set(takes, (nint)(delegate* unmanaged<nint*, nuint, nuint, int>)&Take) || !Serves(c10, pool))
        {
            // The pool is never freed, because blocks may be in use.
            _ = ImportTable.Set(takes, NativeLibrary.GetExport(libc, "posix_memalign"));
            return false;
        }

        // Frees by static destructors after the runtime has shut down are ignored.
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            _ = ImportTable.Set(takes, NativeLibrary.GetExport(libc, "posix_memalign"));
            _ = ImportTable.Set(frees, NativeLibrary.GetExport(libc, "abs"));
        };
        return s_serves = true;
    }

    // Whether libc10's functions for CPU memory, c10::alloc_cpu(unsigned long) and c10::free_cpu(void*), use the pool.
    private static bool Serves(nint c10, BlockPool pool)
    {
        if (!NativeLibrary.TryGetExport(c10, "_ZN3c109alloc_cpuEm", out var take) || !NativeLibrary.TryGetExport(c10, "_ZN3c108free_cpuEPv", out var free))
        {
            return false;
        }

        const int size = 1 << 20;
        var block = ((delegate* unmanaged<nuint, nint>)take)(size);
        var taken = block != 0 && pool.Statistics.Live == size;
        ((delegate* unmanaged<nint, void>)free)(block);
        return taken && pool.Statistics.Live == 0;
    }

    [UnmanagedCallersOnly]
    private static int Take(nint* block, nuint alignment, nuint size)
    {
        if (size < BlockPool.MinSize || alignment > 4096)
        {
            return posix_memalign(block, alignment, size);
        }

        try
        {
            var taken = s_pool!.Take((long)Math.Min(size, long.MaxValue));
            *block = (nint)taken;
            return taken == 0 ? OutOfMemory : 0;
        }
        catch (OutOfMemoryException)
        {
            return OutOfMemory;
        }
    }

    [UnmanagedCallersOnly]
    private static void Free(nint block)
    {
        // Blocks of the pool are page-aligned; few others are.
        if ((block & 4095) != 0 || !s_pool!.Put(block))
        {
            free(block);
        }
    }

    [LibraryImport("libc")]
    private static partial int posix_memalign(nint* block, nuint alignment, nuint size);

    [LibraryImport("libc")]
    private static partial void free(nint block);

    [LibraryImport("libc")]
    private static partial int mallopt(int parameter, int value);
}
