#if TORCH_SYSTEM
using OpenWeights.LibTorch;

namespace OpenWeights.Tune.Torch;

/// <summary>An installed libtorch, through OpenWeights.LibTorch.</summary>
internal sealed class SystemTorch : ITorchSupplier
{
    public string Name => "system (OpenWeights.LibTorch)";

    public string Version => LibTorchRuntime.Version;

    public IReadOnlyList<string> Description => LibTorchRuntime.Description.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    public IReadOnlyList<string> Notes
    {
        get
        {
            var notes = new List<string>();
            notes.Add(LibTorchRuntime.PreloadedBlas is { } blas
                ? $"BLAS: {blas}, whose threads are OpenMP's like libtorch's own."
                : "BLAS: whichever libtorch is linked to. With Debian's libtorch, install libopenblas0-openmp: it is then used, and is several times faster than one whose threads fight libtorch's.");
            if (LibTorchRuntime.ClearedCoreType is { } preset)
            {
                notes.Add($"OPENBLAS_CORETYPE={preset} was set and is left out of account: BLAS picks the kernels for this processor.");
            }

            if (LibTorchRuntime.LeftOut is { Count: > 0 } leftOut)
            {
                notes.Add($"{leftOut.Count} libraries that libtorch names and takes nothing from are not loaded ({string.Join(", ", leftOut.Take(3))}, ...); OWT_WHOLE_LIBTORCH=1 loads them.");
            }

            return notes;
        }
    }

    public void LoadAhead() => LibTorchRuntime.LoadAhead();
}
#endif
