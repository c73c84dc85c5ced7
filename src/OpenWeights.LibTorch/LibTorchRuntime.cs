using OpenWeights.LibTorch.Native;

namespace OpenWeights.LibTorch;

/// <summary>Information about an installed libtorch that TorchSharp's API does not provide.</summary>
public static unsafe class LibTorchRuntime
{
    /// <summary>Version of the libtorch that this was built against, such as 1.13.1.</summary>
    public static string Version => NativeMethods.Version();

    /// <summary>libtorch's description of its build and threads, in lines.</summary>
    public static string Description => NativeMethods.Describe();

    /// <summary>The BLAS that was preloaded because it uses OpenMP threads, or null.</summary>
    public static string? PreloadedBlas => NativeLoader.PreloadedBlas;

    /// <summary>The value of OPENBLAS_CORETYPE that was removed so that BLAS selects its kernels for this processor, or null.</summary>
    public static string? ClearedCoreType => NativeLoader.ClearedCoreType;

    /// <summary>
    /// Libraries that libtorch links but does not use, and that were not loaded; the environment variable OWT_WHOLE_LIBTORCH loads them.
    /// </summary>
    public static IReadOnlyList<string> LeftOut => NativeLoader.LeftOut;

    /// <summary>Loads libtorch, once; the first use of torch does so as well.</summary>
    /// <exception cref="DllNotFoundException">libtorch or the native part cannot be loaded; the message says what to do.</exception>
    public static void Load()
    {
        NativeLoader.LoadLibrary();
        _ = NativeMethods.Version();
    }

    /// <summary>Address of a tensor's first element, on whatever device it is. The tensor must stay referenced while it is used.</summary>
    /// <param name="tensor">The tensor.</param>
    public static nint Data(TorchSharp.torch.Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        nint data;
        NativeMethods.Check(NativeMethods.owt_data(tensor.Handle, &data));
        GC.KeepAlive(tensor);
        return data;
    }

    /// <summary>Starts loading libtorch on another thread, so that it is ready at first use. A failure is reported at first use.</summary>
    public static void LoadAhead() => new Thread(static () =>
    {
        try
        {
            NativeLoader.LoadLibrary();
        }
        catch (DllNotFoundException)
        {
            // The first use of torch tries again, and reports the failure.
        }
    })
    { IsBackground = true, Name = "libtorch" }.Start();

    /// <summary>Bytes of large CPU tensors: in use, peak, and kept for reuse.</summary>
    public static (long Live, long Peak, long Cached) CpuMemory
    {
        get
        {
            long live, peak, cached;
            NativeMethods.owt_cpu_memory(&live, &peak, &cached);
            return (live, peak, cached);
        }
    }

    /// <summary>Resets the peak of <see cref="CpuMemory"/> to the bytes in use.</summary>
    public static void ResetCpuPeak() => NativeMethods.owt_reset_cpu_peak();
}
