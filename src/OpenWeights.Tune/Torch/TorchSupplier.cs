namespace OpenWeights.Tune.Torch;

/// <summary>The supplier of TorchSharp's API that this program was built with.</summary>
public static class TorchSupplier
{
    /// <summary>The supplier.</summary>
    public static ITorchSupplier Current { get; } =
#if TORCH_SYSTEM
        new SystemTorch();
#else
        new PackagedTorch();
#endif
}
