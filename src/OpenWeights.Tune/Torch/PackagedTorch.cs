#if !TORCH_SYSTEM
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>TorchSharp's own package, and the libtorch that comes with it or that LIBTORCH names.</summary>
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
                ? [$"LIBTORCH is {folder} and is left out of account: this program has the libtorch of its package. OWT_TORCH=system takes the other."]
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
            // Who uses torch tries again, and is told.
        }
    })
    { IsBackground = true, Name = "libtorch" }.Start();

    public void Load() => TorchLibraries.Load();
}
#endif
