using OpenWeights.LibTorch.Native;

namespace OpenWeights.LibTorch;

/// <summary>What an installed libtorch can tell of itself and TorchSharp's API has no member for.</summary>
public static unsafe class LibTorchRuntime
{
    /// <summary>The version of the libtorch that this was built against, such as 1.13.1.</summary>
    public static string Version => NativeMethods.Version();

    /// <summary>libtorch's own description of how it was built and how it runs in parallel, in lines.</summary>
    public static string Description => NativeMethods.Describe();

    /// <summary>The BLAS that was loaded ahead of libtorch because its threads are OpenMP's, if one was.</summary>
    public static string? PreloadedBlas => NativeLoader.PreloadedBlas;

    /// <summary>The value of OPENBLAS_CORETYPE that was taken back so that BLAS picks its kernels for this processor, if there was one.</summary>
    public static string? ClearedCoreType => NativeLoader.ClearedCoreType;

    /// <summary>The libraries that libtorch names and takes nothing from, and that were therefore not loaded; OWT_WHOLE_LIBTORCH in the environment loads them.</summary>
    public static IReadOnlyList<string> LeftOut => NativeLoader.LeftOut;

    /// <summary>Loads libtorch, once; the first use of torch does so as well.</summary>
    /// <exception cref="DllNotFoundException">It or the native part cannot be loaded; the message tells what to do.</exception>
    public static void Load()
    {
        NativeLoader.LoadLibrary();
        _ = NativeMethods.Version();
    }

    /// <summary>Begins to load libtorch on another thread, so that it is there when it is first used. A failure is told by that first use.</summary>
    public static void LoadAhead() => new Thread(static () =>
    {
        try
        {
            NativeLoader.LoadLibrary();
        }
        catch (DllNotFoundException)
        {
            // Who uses torch tries again, and is told.
        }
    })
    { IsBackground = true, Name = "libtorch" }.Start();

    /// <summary>The bytes of large CPU tensors: in use now, the most in use at once, and kept for reuse.</summary>
    public static (long Live, long Peak, long Cached) CpuMemory
    {
        get
        {
            long live, peak, cached;
            NativeMethods.owt_cpu_memory(&live, &peak, &cached);
            return (live, peak, cached);
        }
    }

    /// <summary>Lets the peak of <see cref="CpuMemory"/> start again from what is in use now.</summary>
    public static void ResetCpuPeak() => NativeMethods.owt_reset_cpu_peak();
}
