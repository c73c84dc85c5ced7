using System.Globalization;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>The memory that a program may take on a device.</summary>
/// <param name="Bytes">How much, what this process holds already among it.</param>
/// <param name="Where">Whose memory it is, such as "this machine's memory".</param>
public sealed record AvailableMemory(long Bytes, string Where)
{
    /// <summary>What a run may take of it: more, and the next small thing is too much.</summary>
    public const double Share = 0.95;

    /// <summary>The room on a device; null where the system does not tell.</summary>
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

        // What this process holds already is its own to use.
        var own = ProcessMemory.Current;
        var machine = MachineMemory.Free is { } free ? new AvailableMemory(free + own, "this machine's memory") : null;
        return CgroupMemory.Current is { } group && (machine is null || group.Free + own < machine.Bytes)
            ? new AvailableMemory(group.Free + own, string.Create(CultureInfo.InvariantCulture, $"the {group.Limit >> 20:N0} MiB that the control group of this process may hold"))
            : machine;
    }

    /// <summary>What has been taken of a GPU's memory since its room was told; torch keeps what it once had. Null for a CPU, and where the driver does not tell.</summary>
    internal static long? Taken(Device device, AvailableMemory? before) =>
        device.type == DeviceType.CUDA && before is not null && CudaDriver.Read(Math.Max(0, device.index)) is { } gpu ? Math.Max(0, before.Bytes - gpu.FreeBytes) : null;
}
