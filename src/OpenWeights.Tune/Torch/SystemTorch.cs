#if TORCH_SYSTEM
using System.Runtime.InteropServices;
using OpenWeights.LibTorch;

namespace OpenWeights.Tune.Torch;

/// <summary>An installed libtorch, used through OpenWeights.LibTorch.</summary>
internal sealed class SystemTorch : ITorchSupplier
{
    public string Name => "system (OpenWeights.LibTorch)";

    public string Version
    {
        get
        {
            Load();
            return LibTorchRuntime.Version;
        }
    }

    public string? Library
    {
        get
        {
            Load();
            return LoadedLibraries.Find("libtorch_cpu");
        }
    }

    public IReadOnlyList<string> Description
    {
        get
        {
            Load();
            return LibTorchRuntime.Description.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        }
    }

    public IReadOnlyList<string> Notes
    {
        get
        {
            Load();
            var notes = new List<string>();

            // Only a distribution's libtorch uses the process's BLAS; PyTorch's has its own.
            if (LibTorchRuntime.PreloadedBlas is { } blas)
            {
                notes.Add($"{blas} is preloaded: it uses OpenMP threads, like libtorch.");
            }
            else if ((LoadedLibraries.Find("libopenblas") ?? LoadedLibraries.Find("libblas"))?.StartsWith("/usr/lib", StringComparison.Ordinal) == true)
            {
                notes.Add("the threads of this libtorch's BLAS compete with libtorch's own. On Debian and Ubuntu install libopenblas0-openmp, which is then used and is several times faster.");
            }

            if (LibTorchRuntime.ClearedCoreType is { } preset)
            {
                notes.Add($"OPENBLAS_CORETYPE={preset} is ignored: BLAS selects the kernels for this processor.");
            }

            if (LibTorchRuntime.LeftOut is { Count: > 0 } leftOut)
            {
                notes.Add($"{leftOut.Count} libraries that libtorch links but does not use are not loaded ({string.Join(", ", leftOut.Take(3))}, ...); OWT_WHOLE_LIBTORCH=1 loads them.");
            }

            return notes;
        }
    }

    public void LoadAhead() => LibTorchRuntime.LoadAhead();

    public void Load()
    {
        try
        {
            LibTorchRuntime.Load();
        }
        catch (DllNotFoundException e)
        {
            throw new TorchUnavailableException(e.Message, e);
        }

        // The native part was built with one libtorch's headers; with another version it may load but compute wrongly.
        var lines = LibTorchRuntime.Description.Split('\n');
        if (LibTorchVersion.ReadDescription(lines) is { } loaded && System.Version.TryParse(LibTorchRuntime.Version, out var built)
            && (loaded.Major, loaded.Minor) != (built.Major, built.Minor))
        {
            throw new TorchUnavailableException(
                $"The native part of this program was built against libtorch {built}, and {loaded} is loaded ({LoadedLibraries.Find("libtorch_cpu")}). Delete the folder artifacts/native and build again.");
        }

        if (LoadedLibraries.Find("libtorch_cpu") is { } file)
        {
            MklInstructions.UseFeatures(NativeLibrary.Load(file));
        }
    }
}
#endif
