using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>Memory of a run whose layers are spread over several devices.</summary>
/// <param name="Counts">Number of layers of each device.</param>
/// <param name="Loads">What each device holds at its peak, and its free memory.</param>
internal sealed record DeviceLoads(IReadOnlyList<int> Counts, IReadOnlyList<DeviceLoad> Loads)
{
    // As much for all devices.
    private const long Unknown = 1L << 40;

    /// <summary>Spreads the layers so that the fullest device is as little full as possible.</summary>
    /// <param name="costs">What the run holds.</param>
    /// <param name="devices">The devices.</param>
    /// <param name="free">Their free memory; null where it is not known.</param>
    internal static DeviceLoads Of(RunCosts costs, IReadOnlyList<Device> devices, IReadOnlyList<long>? free)
    {
        var (held, activations) = (costs.Held, costs.Activations);
        var layers = held.Layers.Select((bytes, i) => bytes + activations.Layers[i].Before + activations.Layers[i].Stored).ToList();

        // Besides its layers each device needs what one layer does at once; the last needs what the head does, if it is more.
        var working = activations.Layers.Max(static l => l.Working);
        var room = free ?? [.. devices.Select(static _ => Unknown)];
        var counts = LayerSplit.Of(layers, held.First + activations.Inputs, held.Last + Math.Max(0, activations.Head - working), [.. room.Select(r => Math.Max(1, r - working))]);
        var loads = new List<DeviceLoad>();
        for (int d = 0, first = 0; d < counts.Length; first += counts[d], d++)
        {
            var (isFirst, isLast) = (d == 0, d == counts.Length - 1);
            var bytes = held.Layers.Skip(first).Take(counts[d]).Sum() + (isFirst ? held.First + activations.Inputs : 0) + (isLast ? held.Last : 0)
                + activations.Peak(first, counts[d], isLast ? activations.Head : 0);
            loads.Add(new DeviceLoad(devices[d], bytes, free?[d]));
        }

        return new DeviceLoads(counts, loads);
    }

    /// <summary>Whether all devices have room.</summary>
    internal bool Fit => Loads.All(static l => l.Free is not { } free || l.Bytes <= free * AvailableMemory.Share);
}

/// <summary>What a device holds at its peak.</summary>
/// <param name="Device">The device.</param>
/// <param name="Bytes">Bytes of the run.</param>
/// <param name="Free">Its free memory; null if unknown.</param>
internal sealed record DeviceLoad(Device Device, long Bytes, long? Free);
