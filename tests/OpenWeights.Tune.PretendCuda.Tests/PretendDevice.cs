using System.Runtime.InteropServices;
using NUnit.Framework;
using TorchSharp;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>The device that all tests of this project run on.</summary>
internal static unsafe class PretendDevice
{
    private static nint s_library;
    private static delegate* unmanaged<int, long> s_count;
    private static delegate* unmanaged<delegate* unmanaged<byte*, void>, void> s_listen;
    private static delegate* unmanaged<int, long*, long*, void> s_memory;
    private static delegate* unmanaged<int> s_isReadable;
    private static delegate* unmanaged<int, void> s_setCapability;

    /// <summary>What is counted since the start; the order is the native part's.</summary>
    internal enum Counted
    {
        Operators,
        Waits,
        CopiesIn,
        CopiesInUnpinned,
        CopiesOut,
        CopiesOutLate,
        CopiesAcross,
    }

    internal static string Path => System.IO.Path.Combine(AppContext.BaseDirectory, "libPretendCuda.so");

    /// <summary>Why each wait for the device happened, with the managed code that waited, while somebody wants to know.</summary>
    internal static List<string>? Waits { get; set; }

    internal static long Count(Counted what) => s_count((int)what);

    /// <summary>Number of devices; the program's own processes have one.</summary>
    internal const int Devices = 2;

    internal static long MemoryInUse => MemoryOf(0);

    /// <summary>Bytes in use on a device.</summary>
    internal static long MemoryOf(int device)
    {
        long live, peak;
        s_memory(device, &live, &peak);
        return live;
    }

    /// <summary>Gives the device a compute capability, times ten.</summary>
    internal static void SetCapability(int capability) => s_setCapability(capability);

    /// <summary>Whether the host can read the device's memory.</summary>
    internal static bool IsReadable => s_isReadable() != 0;

    /// <summary>Puts the device into this process, or skips all tests with the reason why there is none.</summary>
    internal static void Load()
    {
        if (!File.Exists(Path))
        {
            Assert.Ignore(File.Exists(Path + ".reason") ? File.ReadAllText(Path + ".reason").Trim() : "the pretend GPU is there with the torch runtime 'system' alone");
        }

        // The library's native part comes first: it says which BLAS and which memory libtorch uses.
        _ = torch.get_num_threads();
        s_library = NativeLibrary.Load(Path);
        s_count = (delegate* unmanaged<int, long>)Export("count");
        s_listen = (delegate* unmanaged<delegate* unmanaged<byte*, void>, void>)Export("listen");
        s_memory = (delegate* unmanaged<int, long*, long*, void>)Export("memory");
        s_isReadable = (delegate* unmanaged<int>)Export("is_readable");
        s_setCapability = (delegate* unmanaged<int, void>)Export("set_capability");
        ((delegate* unmanaged<int, void>)Export("set_devices"))(Devices);
        OpenWeights.Tune.Torch.CudaDriver.StandIn = s_library;
        s_listen(&Heard);
        Assert.That(torch.cuda.is_available() && torch.cuda.device_count() == Devices);
    }

    private static void* Export(string name) => (void*)NativeLibrary.GetExport(s_library, "pretend_cuda_" + name);

    [UnmanagedCallersOnly]
    private static void Heard(byte* reason)
    {
        if (Waits is { } waits)
        {
            lock (waits)
            {
                waits.Add($"{Marshal.PtrToStringUTF8((nint)reason)}\n{Environment.StackTrace}");
            }
        }
    }
}
