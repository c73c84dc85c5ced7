using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// Has a packaged libtorch take its large blocks of CPU memory from a <see cref="BlockPool"/>. libc10 asks the C library for them
/// (posix_memalign and free), and those two entries of its table of functions are set to the functions here: plain C, no matter how
/// libtorch's classes are laid out, and a refusal becomes libtorch's own error. What it is worth: docs/performance.md. OWT_PLAIN_HEAP in the
/// environment leaves everything with the C library.
/// </summary>
internal static unsafe partial class PooledHeap
{
    private const int OutOfMemory = 12;
    private const int MmapThreshold = -3;
    private const int TrimThreshold = -1;
    private const int TopPad = -2;

    private static BlockPool? s_pool;
    private static bool s_serves;

    /// <summary>The bytes of large CPU tensors: in use now, the most in use at once, and kept for reuse. Null where the C library has them.</summary>
    internal static (long Live, long Peak, long Cached)? Statistics => s_serves ? s_pool?.Statistics : null;

    /// <summary>Takes over the memory of a libc10 where this is Linux with the GNU C library; whether it did. Blocks from before stay what they are.</summary>
    /// <param name="c10">libc10's handle.</param>
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

        // Small blocks, and the scratch of BLAS, stay with the C library, which need not give them back.
        _ = mallopt(MmapThreshold, 32 << 20);
        _ = mallopt(TrimThreshold, 1 << 30);
        _ = mallopt(TopPad, 16 << 20);
        var pool = s_pool = new BlockPool(new LinuxPages(), 2 * GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
        if (!ImportTable.Set(frees, (nint)(delegate* unmanaged<nint, void>)&Free) || !ImportTable.Set(takes, (nint)(delegate* unmanaged<nint*, nuint, nuint, int>)&Take) || !Serves(c10, pool))
        {
            // The pool stays for what it may have given out.
            _ = ImportTable.Set(takes, NativeLibrary.GetExport(libc, "posix_memalign"));
            return false;
        }

        // What static destructors of libraries free when the runtime is gone stays where it is.
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            _ = ImportTable.Set(takes, NativeLibrary.GetExport(libc, "posix_memalign"));
            _ = ImportTable.Set(frees, NativeLibrary.GetExport(libc, "abs"));
        };
        return s_serves = true;
    }

    // Whether libc10's own functions for a CPU's memory, c10::alloc_cpu(unsigned long) and c10::free_cpu(void*), come to the pool.
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
        // Blocks of the pool begin on a page; few others do.
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
