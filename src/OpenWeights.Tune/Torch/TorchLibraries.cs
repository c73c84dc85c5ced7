#if !TORCH_SYSTEM
using System.Runtime.InteropServices;
using OpenWeights.Tune.Torch.Memory;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Loads libtorch and TorchSharp's native library before TorchSharp does: libtorch from the folder in OWT_LIBTORCH, else the program's own,
/// else from the folder in LIBTORCH. Failures are reported in one sentence; TorchSharp would print pages and copy the package.
/// </summary>
internal static partial class TorchLibraries
{
    /// <summary>The folder below a published program that has its libtorch, where TorchSharp does not look by itself (the project file of owt).</summary>
    private const string OwnFolder = "libtorch";
    private const string Chosen = "OWT_LIBTORCH";
    private static readonly Lock s_gate = new();
    private static readonly string s_rid = $"{(OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux")}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
    private static readonly string[] s_parts = ["libc10*.so", "libtorch*.so", "libgomp*.so*"];
    private static volatile bool s_isLoaded;

    /// <summary>Version of libtorch, after loading.</summary>
    internal static Version? Version { get; private set; }

    /// <summary>Handle of libtorch_cpu, after loading.</summary>
    internal static nint LibTorch { get; private set; }

    /// <summary>Path of libtorch_cpu, after loading.</summary>
    internal static string? Path { get; private set; }

    /// <summary>LIBTORCH, if it is set but the libtorch of the package is used.</summary>
    internal static string? UnusedLibTorch { get; private set; }

    /// <summary>Whether OWT_LIBTORCH can name another libtorch than the program's own, after loading.</summary>
    internal static bool CanChoose { get; private set; }

    /// <summary>Loads all libraries, once.</summary>
    /// <exception cref="TorchUnavailableException">A library is missing, cannot be loaded, or does not match the others.</exception>
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
                    $"TorchSharp's library {FileName("LibTorchSharp")} was not found for {s_rid} (searched in {string.Join(", ", Folders())}). {Instead}");
                ShortenSpinning();
                LoadLibTorch(Folder());
                var folder = System.IO.Path.GetDirectoryName(Path)!;
                MklInstructions.UseFeatures(LibTorch);
                _ = Open(own);
                _ = PooledHeap.TakeOver(Open(System.IO.Path.Combine(folder, FileName("c10"))));
                StartPages.Release(folder);
                s_isLoaded = true;
            }
        }
    }

    private static string Instead => OperatingSystem.IsWindows()
        ? "Build again with -p:TorchRuntime=cpu; a program that uses OpenWeights.Tune as a package adds the package TorchSharp-cpu, or TorchSharp-cuda-windows for an NVIDIA GPU."
        : "A program that uses OpenWeights.Tune as a package adds the package TorchSharp-cpu, or TorchSharp-cuda-linux for an NVIDIA GPU. In a checkout, build again with -p:TorchRuntime=cpu, or use an installed libtorch or PyTorch: start scripts/owt once with OWT_TORCH=system, or build with -p:TorchRuntime=system.";

    private static void LoadLibTorch(string folder)
    {
        if (OperatingSystem.IsLinux() && Parts(folder).FirstOrDefault(static file => !SharedLibrary.IsWhole(file)) is { } cut)
        {
            throw new TorchUnavailableException($"{cut} is truncated. Copy or install it again; a file of the build is restored by deleting it and building again.");
        }

        // Its dependencies are loaded from its own folder, not from the system.
        LibTorch = Open(System.IO.Path.Combine(folder, FileName("torch_cpu")));
        Path = System.IO.Path.Combine(folder, FileName("torch_cpu"));
        var (first, last) = SupportedLibTorch.Range;
        var name = $"{typeof(torch).Assembly.GetName().Version?.ToString(3)}";
        Version = LibTorchVersion.Read(LibTorch, folder) ?? throw new TorchUnavailableException(
            $"The libtorch in {folder} does not report its version, so it is older than 2.9; TorchSharp {name} needs {first} to {last}. Use one of those, or in a checkout OWT_TORCH=system, which works with others too.");
        if (!SupportedLibTorch.Fits(Version))
        {
            throw new TorchUnavailableException(
                $"The libtorch in {folder} is version {Version}; TorchSharp {name} works only with {first} to {last}. Use one of those, or in a checkout OWT_TORCH=system, which works with others too.");
        }

        // TorchSharp's library loads libtorch, which loads the CUDA part if there is one.
        var whole = System.IO.Path.Combine(folder, FileName("torch"));
        if (File.Exists(whole))
        {
            _ = Open(whole);
        }
    }

    // The files of libtorch and its OpenMP; a distribution's folder contains thousands of others.
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

    /// <summary>The loader's own message, which .NET places after advice of its own.</summary>
    internal static string Reason(string message) =>
        message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault()?.TrimEnd('.') ?? "no reason is given";

    private static string Advice(string message) =>
        message.Contains("GLIBCXX_", StringComparison.Ordinal) || message.Contains("GLIBC_", StringComparison.Ordinal)
            ? $"The C++ or C library of this system is older than what TorchSharp was built with. {Instead}"
            : message.Contains("No such file", StringComparison.Ordinal)
                ? $"A file is missing. {Instead}"
                : Instead;

    // The folder of the libtorch to use.
    private static string Folder()
    {
        var beside = Find("torch_cpu");
        if (Environment.GetEnvironmentVariable(Chosen) is { Length: > 0 } chosen)
        {
            var library = In(chosen, Chosen);

            // TorchSharp loads a libtorch that lies beside it by itself, and two in one process end it.
            return beside is null
                ? System.IO.Path.GetDirectoryName(library)!
                : throw new TorchUnavailableException(
                    $"{Chosen} is {chosen}, but this program has a libtorch beside it, which cannot be left out: {beside}. {Chosen} is for owt as a .NET tool and for published programs; in a checkout, start scripts/owt once with OWT_TORCH=system and LIBTORCH={chosen}.");
        }

        var own = beside ?? System.IO.Path.Combine(AppContext.BaseDirectory, OwnFolder, FileName("torch_cpu"));
        var environment = Environment.GetEnvironmentVariable("LIBTORCH") is { Length: > 0 } named ? named : null;
        if (File.Exists(own))
        {
            (UnusedLibTorch, CanChoose) = (environment, beside is null);
            return System.IO.Path.GetDirectoryName(own)!;
        }

        return System.IO.Path.GetDirectoryName(In(
            environment ?? throw new TorchUnavailableException(
                $"{FileName("torch_cpu")} was not found for {s_rid} (searched in {string.Join(", ", Folders())}). Set LIBTORCH to the folder of a libtorch or PyTorch {SupportedLibTorch.Range.First} to {SupportedLibTorch.Range.Last}. {Instead}"),
            "LIBTORCH"))!;
    }

    // libtorch_cpu in a folder that a variable names: of libtorch or PyTorch, or the one of the libraries themselves.
    private static string In(string root, string variable)
    {
        root = System.IO.Path.GetFullPath(root);
        return new[] { System.IO.Path.Combine(root, "lib"), root, System.IO.Path.Combine(root, "lib64"), System.IO.Path.Combine(root, "lib", $"{(RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64" : "x86_64")}-linux-gnu") }
            .Select(static folder => System.IO.Path.Combine(folder, FileName("torch_cpu")))
            .FirstOrDefault(File.Exists)
            ?? throw new TorchUnavailableException($"{variable} is {root}, which does not contain {FileName("torch_cpu")} or lib/{FileName("torch_cpu")}. Set it to the folder of a libtorch, or of the package torch in a Python installation.");
    }

    private static string? Find(string name) => Folders().Select(folder => System.IO.Path.Combine(folder, FileName(name))).FirstOrDefault(File.Exists);

    // The folders of native package files known to the host, and those of a published or copied program.
    private static IEnumerable<string> Folders() =>
        $"{AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES")}".Split(System.IO.Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Where(static folder => !folder.Contains("Microsoft.NETCore.App", StringComparison.Ordinal))
            .Append(AppContext.BaseDirectory)
            .Append(System.IO.Path.Combine(AppContext.BaseDirectory, "runtimes", s_rid, "native"))
            .Select(static folder => folder.TrimEnd(System.IO.Path.DirectorySeparatorChar))
            .Distinct();

    private static string FileName(string name) =>
        OperatingSystem.IsWindows() ? $"{name}.dll" : OperatingSystem.IsMacOS() ? $"lib{name}.dylib" : $"lib{name}.so";

    // OpenMP threads spin for milliseconds while waiting, on cores that our own threads or other programs need. The variable is read from
    // the C library's environment when libgomp is loaded.
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
