using System.Reflection;
using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Loads the native part, and before it what decides how fast libtorch is: a BLAS whose threads are OpenMP's, like libtorch's own
/// (two kinds of threads fight for the cores), with the kernels it picks for this processor.
/// </summary>
internal static partial class NativeLoader
{
    private const int RtldNow = 2;
    private const int RtldGlobal = 0x100;
    private static readonly Lock s_gate = new();
    private static nint s_library;

    /// <summary>The BLAS that was loaded ahead of libtorch, if one was.</summary>
    internal static string? PreloadedBlas { get; private set; }

    /// <summary>A kernel choice that the environment preset and that was taken back, if there was one.</summary>
    internal static string? ClearedCoreType { get; private set; }

    /// <summary>The libraries that libtorch names and does not need, and that were therefore not loaded.</summary>
    internal static IReadOnlyList<string> LeftOut { get; private set; } = [];

    internal static void Load()
    {
        LoadLibrary();
        Initialize();
    }

    /// <summary>The part of <see cref="Load"/> that takes long and may be done by any thread; again it does nothing.</summary>
    internal static void LoadLibrary()
    {
        lock (s_gate)
        {
            if (s_library != 0)
            {
                return;
            }

            var path = Find();
            if (OperatingSystem.IsLinux())
            {
                ClearCoreType();
                ShortenSpinning();
                PreloadBlas(path);
            }

            s_library = OpenWithStandIns(path);
            NativeLibrary.SetDllImportResolver(typeof(NativeLoader).Assembly, Resolve);
        }
    }

    private static nint OpenWithStandIns(string path)
    {
        using var standIns = StandIns.Load(path + ".unused");
        if (standIns.Names.Count == 0 || !NativeLibrary.TryLoad(path, out var library))
        {
            standIns.Dispose();
            return Open(path);
        }

        LeftOut = standIns.Names;
        return library;
    }

    // OpenMP's number of threads is the calling thread's own, so this is done by the thread that computes.
    private static void Initialize()
    {
        if (OperatingSystem.IsLinux())
        {
            NativeMethods.owt_use_pooled_memory();
            NativeMethods.owt_drop_start_pages();
        }

        // libtorch may start at one thread; a number that the user chose stays.
        if (Environment.GetEnvironmentVariable("OMP_NUM_THREADS") is null or "")
        {
            _ = NativeMethods.owt_set_threads(Environment.ProcessorCount);
        }
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? search) => name == NativeMethods.Library ? s_library : 0;

    private static string Find()
    {
        var file = OperatingSystem.IsMacOS() ? "libOpenWeightsTorch.dylib" : "libOpenWeightsTorch.so";
        foreach (var folder in new[] { AppContext.BaseDirectory, Path.GetDirectoryName(typeof(NativeLoader).Assembly.Location) })
        {
            if (!string.IsNullOrEmpty(folder) && File.Exists(Path.Combine(folder, file)))
            {
                return Path.Combine(folder, file);
            }
        }

        throw new DllNotFoundException(
            $"{file} is not beside the program in {AppContext.BaseDirectory}. It is built with the program when TorchRuntime is system: build again with -p:TorchRuntime=system.");
    }

    private static nint Open(string path)
    {
        try
        {
            return NativeLibrary.Load(path);
        }
        catch (DllNotFoundException e)
        {
            throw new DllNotFoundException(
                $"{path} could not be loaded ({e.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)[^1]}). The libtorch it was built against may be gone or of another version: delete the folder artifacts/native and build again.", e);
        }
    }

    // The runtime's own Environment does not reach native code, so the C library's environment is changed.
    private static void ClearCoreType()
    {
        const string name = "OPENBLAS_CORETYPE";
        if (Environment.GetEnvironmentVariable(name) is { Length: > 0 } preset)
        {
            _ = unsetenv(name);
            ClearedCoreType = preset;
        }
    }

    // OpenMP's threads wait for each other by spinning for milliseconds. On cores that are shared with other work that costs a small
    // model most of its speed (measured: 2.6 times slower on two busy cores; on two idle ones there is no difference), so they go to sleep early.
    private static void ShortenSpinning()
    {
        if (Environment.GetEnvironmentVariable("GOMP_SPINCOUNT") is null && Environment.GetEnvironmentVariable("OMP_WAIT_POLICY") is null)
        {
            _ = setenv("GOMP_SPINCOUNT", "1000", 1);
        }
    }

    // Only for the distribution's libtorch, which calls whichever BLAS the process has: the first one loaded for all wins.
    private static void PreloadBlas(string library)
    {
        var libtorch = library + ".libtorch";
        var folder = File.Exists(libtorch) ? File.ReadAllText(libtorch).Trim() : "/usr/lib/" + Triplet;
        if (!folder.StartsWith("/usr/lib", StringComparison.Ordinal))
        {
            return;
        }

        var blas = Path.Combine(folder, "openblas-openmp", "libopenblas.so.0");
        if (File.Exists(blas) && dlopen(blas, RtldNow | RtldGlobal) != 0)
        {
            PreloadedBlas = blas;
        }
    }

    private static string Triplet => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unsetenv(string name);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint dlopen(string path, int flags);
}
