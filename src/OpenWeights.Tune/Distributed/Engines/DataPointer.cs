using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines;

/// <summary>Where a tensor's numbers are, on any device.</summary>
internal static partial class DataPointer
{
    /// <summary>Address of the first element of a contiguous tensor; 0 for an empty one. The tensor must stay referenced while it is used.</summary>
    internal static nint Of(Tensor tensor) => !tensor.is_contiguous()
        ? throw new ArgumentException("a tensor that ranks exchange must be contiguous", nameof(tensor))
        : tensor.numel() == 0 ? 0 : Read(tensor);

#if TORCH_SYSTEM
    private static nint Read(Tensor tensor) => OpenWeights.LibTorch.LibTorchRuntime.Data(tensor);
#else
    // TorchSharp has it for CPU tensors alone, as a span of at most 2 GB.
    private static nint Read(Tensor tensor)
    {
        var address = THSTensor_data(tensor.Handle);
        GC.KeepAlive(tensor);
        return address;
    }

    [System.Runtime.InteropServices.LibraryImport("LibTorchSharp")]
    private static partial nint THSTensor_data(nint handle);
#endif
}
