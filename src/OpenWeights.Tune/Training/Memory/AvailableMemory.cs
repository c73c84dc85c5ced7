using System.Globalization;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>Memory available to this process on a device.</summary>
/// <param name="Bytes">Available bytes, including what this process already uses.</param>
/// <param name="Where">Whose memory it is, such as "this machine's memory".</param>
internal sealed record AvailableMemory(long Bytes, string Where)
{
    /// <summary>Fraction that a run may use, to leave a reserve.</summary>
    public const double Share = 0.95;

    /// <summary>The available memory of a device; null if unknown.</summary>
    /// <param name="device">The CPU or a GPU.</param>
    public static AvailableMemory? Of(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type == DeviceType.CUDA)
        {
            return CudaDriver.Read(Math.Max(0, device.index)) is { } gpu ? new AvailableMemory(gpu.FreeBytes, $"the memory of {device} ({gpu.Name})") : null;
        }

        if (device.type != DeviceType.CPU)
        {
            return null;
        }

        // Memory already used by this process is available to it.
        var own = ProcessMemory.Current;
        var machine = MachineMemory.Free is { } free ? new AvailableMemory(free + own, "this machine's memory") : null;
        return CgroupMemory.Current is { } group && (machine is null || group.Free + own < machine.Bytes)
            ? new AvailableMemory(group.Free + own, string.Create(CultureInfo.InvariantCulture, $"the {group.Limit >> 20:N0} MiB limit of this process's control group"))
            : machine;
    }

    /// <summary>The available memory of several devices together; null if unknown.</summary>
    /// <param name="devices">The devices.</param>
    public static AvailableMemory? Of(IReadOnlyList<Device> devices)
    {
        ArgumentNullException.ThrowIfNull(devices);
        var all = devices.Select(Of).ToList();
        return all.Count == 1 ? all[0]
            : all.Exists(static a => a is null) ? null
            : new AvailableMemory(all.Sum(static a => a!.Bytes), $"the memory of {string.Join(", ", devices)}");
    }

    /// <summary>
    /// GPU memory allocated since its available memory was determined, which torch's caching allocator keeps. Null for a CPU, and if
    /// unknown.
    /// </summary>
    internal static long? Taken(Device device, AvailableMemory? before) =>
        device.type == DeviceType.CUDA && before is not null && CudaDriver.Read(Math.Max(0, device.index)) is { } gpu ? Math.Max(0, before.Bytes - gpu.FreeBytes) : null;

    /// <summary>As the other, of several devices together.</summary>
    internal static long? Taken(IReadOnlyList<Device> devices, AvailableMemory? before) => devices.Count == 1 ? Taken(devices[0], before)
        : before is not null && devices.Select(static d => CudaDriver.Read(Math.Max(0, d.index))).ToList() is var gpus && gpus.TrueForAll(static g => g is not null) ? Math.Max(0, before.Bytes - gpus.Sum(static g => g!.FreeBytes)) : null;
}
