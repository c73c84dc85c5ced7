#if !TORCH_SYSTEM
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>TorchSharp's own package, with its libtorch or the one in OWT_LIBTORCH or LIBTORCH.</summary>
internal sealed class PackagedTorch : ITorchSupplier
{
    public string Name => $"TorchSharp package {typeof(torch).Assembly.GetName().Version?.ToString(3)}";

    public string Version
    {
        get
        {
            Load();
            return $"{TorchLibraries.Version}";
        }
    }

    public string? Library
    {
        get
        {
            Load();
            return TorchLibraries.Path;
        }
    }

    public IReadOnlyList<string> Description
    {
        get
        {
            Load();
            return LibTorchDescription.Read(TorchLibraries.LibTorch);
        }
    }

    public IReadOnlyList<string> Notes
    {
        get
        {
            Load();
            return TorchLibraries.UnusedLibTorch is { } folder
                ? [$"LIBTORCH={folder} is ignored: this program uses the libtorch of its package. {(TorchLibraries.CanChoose ? $"Set OWT_LIBTORCH={folder}" : "Set OWT_TORCH=system")} to use the other."]
                : [];
        }
    }

    public void LoadAhead() => new Thread(static () =>
    {
        try
        {
            TorchLibraries.Load();
        }
        catch (TorchUnavailableException)
        {
            // The first use of torch tries again, and reports the failure.
        }
    })
    { IsBackground = true, Name = "libtorch" }.Start();

    public void Load() => TorchLibraries.Load();
}
#endif
