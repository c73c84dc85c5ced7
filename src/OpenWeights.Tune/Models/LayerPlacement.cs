using System.Globalization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>
/// The devices of a model whose layers are spread over several, in order: the first has the embedding, the last the final norm and the head. Batches are on
/// the last, where the losses are computed. An embedding that is tied to the head is on the last too.
/// </summary>
internal sealed class LayerPlacement
{
    private readonly DecoderConfig _config;
    private readonly int[] _devices;

    /// <summary>Creates a placement.</summary>
    /// <param name="devices">The devices.</param>
    /// <param name="counts">Number of layers on each.</param>
    /// <param name="config">The model's config.</param>
    internal LayerPlacement(IReadOnlyList<Device> devices, IReadOnlyList<int> counts, DecoderConfig config)
    {
        (Devices, Counts, _config) = (devices, counts, config);
        _devices = [.. counts.SelectMany(static (count, device) => Enumerable.Repeat(device, count))];
        if (_devices.Length != config.LayerCount)
        {
            throw new ArgumentException($"{_devices.Length} layers are placed, and the model has {config.LayerCount}", nameof(counts));
        }
    }

    /// <summary>The devices, in the order of their layers.</summary>
    public IReadOnlyList<Device> Devices { get; }

    /// <summary>Number of layers on each device.</summary>
    public IReadOnlyList<int> Counts { get; }

    /// <summary>Device of the embedding, unless it is tied, and of what the layers have in common.</summary>
    internal Device First => Devices[0];

    /// <summary>Device of the final norm, the head and the batches.</summary>
    internal Device Last => Devices[^1];

    /// <summary>Index of a layer's device.</summary>
    /// <param name="layer">The layer.</param>
    internal int IndexOf(int layer) => _devices[layer];

    /// <summary>Device of a layer.</summary>
    /// <param name="layer">The layer.</param>
    internal Device Of(int layer) => Devices[_devices[layer]];

    /// <summary>
    /// Device of a module or tensor. What the stack has besides embedding, layers and final norm is on the first device; what belongs to no part of the model, such as
    /// tensors that the layers of an adapter share, on the last.
    /// </summary>
    /// <param name="name">Its name, such as model.layers.3.mlp or model.layers.3.mlp.up_proj.weight.</param>
    internal Device Of(string name) => LayerBytes.PlaceOf(_config, name) switch
    {
        -1 => First,
        var place when place < _devices.Length => Of(place),
        _ => Last,
    };

    /// <summary>The devices with their numbers of layers: "cuda:0 (17 layers), cuda:1 (15 layers)".</summary>
    public override string ToString() =>
        string.Join(", ", Devices.Zip(Counts, static (device, count) => string.Create(CultureInfo.InvariantCulture, $"{device} ({count} {(count == 1 ? "layer" : "layers")})")));
}
