#if !TORCH_SYSTEM
using System.Runtime.InteropServices;
using OpenWeights.Tune.Torch.Memory;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Loads libtorch and TorchSharp's own library before TorchSharp does: from where the package has them, or libtorch from the folder in
/// LIBTORCH where the program was built without one. What fails is told in a sentence; TorchSharp would print pages and copy the package.
/// </summary>
internal static partial class TorchLibraries
{
    private static readonly Lock s_gate = new();
    private static readonly string s_rid = $"{(OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux")}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
    private static readonly string[] s_parts = ["libc10*.so", "libtorch*.so", "libgomp*.so*"];
    private static volatile bool s_isLoaded;

    /// <summary>The version of libtorch, once it is loaded.</summary>
    internal static Version? Version { get; private set; }

    /// <summary>The handle of libtorch_cpu, once it is loaded.</summary>
    internal static nint LibTorch { get; private set; }

    /// <summary>The file of libtorch_cpu, once it is loaded.</summary>
    internal static string? Path { get; private set; }

    /// <summary>LIBTORCH, where it is set and the libtorch of the package is used all the same.</summary>
    internal static string? UnusedLibTorch { get; private set; }

    /// <summary>Loads everything, once.</summary>
    /// <exception cref="TorchUnavailableException">Something is not there, cannot be loaded, or does not fit the rest.</exception>
    internal static void Load()
    {
        if (s_isLoaded)
        {
            return;
        }

        lock (s_gate)
        {
            if (!s_isLoaded)
            {
                var own = Find("LibTorchSharp") ?? throw new TorchUnavailableException(
                    $"TorchSharp's library {FileName("LibTorchSharp")} is not there for {s_rid} (looked at in {string.Join(", ", Folders())}). {Instead}");
                ShortenSpinning();
                var folder = System.IO.Path.GetDirectoryName(Find("torch_cpu") ?? FromEnvironment())!;
                LoadLibTorch(folder);
                MklInstructions.UseFeatures(LibTorch);
                _ = Open(own);
                _ = PooledHeap.TakeOver(Open(System.IO.Path.Combine(folder, FileName("c10"))));
                StartPages.Release(folder);
                s_isLoaded = true;
            }
        }
    }

    private static string Instead => OperatingSystem.IsWindows()
        ? "Build again with -p:TorchRuntime=cpu."
        : "Build again with -p:TorchRuntime=cpu, or take an installed libtorch or PyTorch: start scripts/owt once with OWT_TORCH=system, or build with -p:TorchRuntime=system.";

    private static void LoadLibTorch(string folder)
    {
        if (OperatingSystem.IsLinux() && Parts(folder).FirstOrDefault(static file => !SharedLibrary.IsWhole(file)) is { } cut)
        {
            throw new TorchUnavailableException($"{cut} is cut off. Copy or install it again; a file of the build comes back with the next one, when it is deleted.");
        }

        // Its dependencies come from its own folder, whichever libraries of the same names the system has.
        LibTorch = Open(System.IO.Path.Combine(folder, FileName("torch_cpu")));
        Path = System.IO.Path.Combine(folder, FileName("torch_cpu"));
        var (first, last) = SupportedLibTorch.Range;
        var name = $"{typeof(torch).Assembly.GetName().Version?.ToString(3)}";
        Version = LibTorchVersion.Read(LibTorch, folder) ?? throw new TorchUnavailableException(
            $"The libtorch in {folder} does not tell its version, so it is older than 2.9; TorchSharp {name} needs {first} to {last}. Take another one, or OWT_TORCH=system, which takes any.");
        if (!SupportedLibTorch.Fits(Version))
        {
            throw new TorchUnavailableException(
                $"The libtorch in {folder} is {Version}; TorchSharp {name} computes right over {first} to {last} alone. Take one of those, or OWT_TORCH=system, which takes any.");
        }

        // TorchSharp's library names libtorch; that in turn brings the part for CUDA, where there is one.
        var whole = System.IO.Path.Combine(folder, FileName("torch"));
        if (File.Exists(whole))
        {
            _ = Open(whole);
        }
    }

    // libtorch's own files, and its OpenMP; in a distribution's folder are thousands of others.
    private static IEnumerable<string> Parts(string folder) =>
        s_parts.SelectMany(pattern => Directory.EnumerateFiles(folder, pattern));

    private static nint Open(string path)
    {
        try
        {
            return NativeLibrary.Load(path);
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException or EntryPointNotFoundException)
        {
            throw new TorchUnavailableException($"{System.IO.Path.GetFileName(path)} cannot be loaded: {Reason(e.Message)}. {Advice(e.Message)}", e);
        }
    }

    /// <summary>The loader's own words, which .NET puts below advice of its own.</summary>
    internal static string Reason(string message) =>
        message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault()?.TrimEnd('.') ?? "no reason is given";

    private static string Advice(string message) =>
        message.Contains("GLIBCXX_", StringComparison.Ordinal) || message.Contains("GLIBC_", StringComparison.Ordinal)
            ? $"The C++ or C library of this system is older than what TorchSharp was built with. {Instead}"
            : message.Contains("No such file", StringComparison.Ordinal)
                ? $"A file is missing. {Instead}"
                : Instead;

    private static string FromEnvironment()
    {
        if (Environment.GetEnvironmentVariable("LIBTORCH") is not { Length: > 0 } root)
        {
            throw new TorchUnavailableException(
                $"{FileName("torch_cpu")} is not there for {s_rid} (looked at in {string.Join(", ", Folders())}). Set LIBTORCH to the folder of a libtorch or PyTorch {SupportedLibTorch.Range.First} to {SupportedLibTorch.Range.Last}. {Instead}");
        }

        root = System.IO.Path.GetFullPath(root);
        return new[] { System.IO.Path.Combine(root, "lib"), root, System.IO.Path.Combine(root, "lib64"), System.IO.Path.Combine(root, "lib", $"{(RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64" : "x86_64")}-linux-gnu") }
            .Select(static folder => System.IO.Path.Combine(folder, FileName("torch_cpu")))
            .FirstOrDefault(File.Exists)
            ?? throw new TorchUnavailableException($"LIBTORCH is {root}, where there is no lib/{FileName("torch_cpu")}. Set it to the folder of a libtorch, or of the package torch of a Python.");
    }

    private static string? Find(string name)
    {
        var found = Folders().Select(folder => System.IO.Path.Combine(folder, FileName(name))).FirstOrDefault(File.Exists);
        if (found is not null && name == "torch_cpu" && Environment.GetEnvironmentVariable("LIBTORCH") is { Length: > 0 } unused)
        {
            UnusedLibTorch = unused;
        }

        return found;
    }

    // Where the host found the packages' native files, and where a published or copied program has them.
    private static IEnumerable<string> Folders() =>
        $"{AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES")}".Split(System.IO.Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Where(static folder => !folder.Contains("Microsoft.NETCore.App", StringComparison.Ordinal))
            .Append(AppContext.BaseDirectory)
            .Append(System.IO.Path.Combine(AppContext.BaseDirectory, "runtimes", s_rid, "native"))
            .Select(static folder => folder.TrimEnd(System.IO.Path.DirectorySeparatorChar))
            .Distinct();

    private static string FileName(string name) =>
        OperatingSystem.IsWindows() ? $"{name}.dll" : OperatingSystem.IsMacOS() ? $"lib{name}.dylib" : $"lib{name}.so";

    // OpenMP's threads wait for each other by spinning for milliseconds, on cores that our own threads or other work want. The C library's
    // environment counts, and only until libgomp is loaded.
    private static void ShortenSpinning()
    {
        if (OperatingSystem.IsLinux() && Environment.GetEnvironmentVariable("GOMP_SPINCOUNT") is null && Environment.GetEnvironmentVariable("OMP_WAIT_POLICY") is null)
        {
            _ = setenv("GOMP_SPINCOUNT", "1000", 1);
        }
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);
}
#endif
