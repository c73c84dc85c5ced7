using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>The devices that a model is loaded onto: one, or several over which its layers are spread in order.</summary>
/// <param name="All">The devices.</param>
/// <param name="Counts">Number of layers of each; null to divide them by the bytes of their weights and the devices' free memory.</param>
internal sealed record ModelDevices(IReadOnlyList<Device> All, IReadOnlyList<int>? Counts = null)
{
    /// <summary>What becomes of the layers' weights as they are read; null where this process has all of them.</summary>
    internal ILayerWeights? Weights { get; init; }

    /// <summary>Device of batches and losses.</summary>
    internal Device Last => All[^1];

    public static implicit operator ModelDevices(Device device) => new([device]);

    /// <summary>The devices of a model's modules; null for one device.</summary>
    /// <param name="config">The model's config.</param>
    /// <param name="shapes">Makes the model with meta weights, to measure them.</param>
    /// <exception cref="InvalidDataException">There are more devices than layers.</exception>
    internal LayerPlacement? Place(DecoderConfig config, Func<CausalLanguageModel> shapes)
    {
        if (All.Count == 1)
        {
            return null;
        }

        if (Counts is not null)
        {
            return new LayerPlacement(All, Counts, config);
        }

        using var model = shapes();
        var bytes = LayerBytes.Of(model);
        return new LayerPlacement(All, LayerSplit.Of(bytes.Layers, bytes.First, bytes.Last, Free(All)), config);
    }

    /// <summary>Free memory of devices; where the driver does not tell, all have as much.</summary>
    /// <param name="devices">The devices.</param>
    internal static IReadOnlyList<long> Free(IReadOnlyList<Device> devices) =>
        devices.Select(static d => CudaDriver.Read(d.index)?.FreeBytes).ToList() is var known && known.TrueForAll(static k => k is not null) ? [.. known.Select(static k => k!.Value)] : [.. devices.Select(static _ => 1L << 30)];
}
