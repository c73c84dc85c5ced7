#if !TORCH_SYSTEM
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>TorchSharp's own package.</summary>
internal sealed class PackagedTorch : ITorchSupplier
{
    public string Name => "TorchSharp package";

    public string Version => typeof(torch).Assembly.GetName().Version?.ToString() ?? "unknown";

    public IReadOnlyList<string> Description => [];

    public IReadOnlyList<string> Notes => [];

    // The package loads its libraries in a static constructor, on the thread that first uses it.
    public void LoadAhead()
    {
    }
}
#endif
