using System.Globalization;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>The device of a tensor: "cpu", "cuda" or "cuda:1".</summary>
    public class Device
    {
        public Device(string description)
        {
            ArgumentNullException.ThrowIfNull(description);
            var parts = description.Split(':');
            type = parts[0].ToLowerInvariant() switch
            {
                "cpu" => DeviceType.CPU,
                "cuda" => DeviceType.CUDA,
                "mps" => DeviceType.MPS,
                "meta" => DeviceType.META,
                _ => throw new ArgumentException($"'{description}' is not a device; use cpu, cuda or cuda:N."),
            };
            index = parts.Length > 1 && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
                ? number
                : type == DeviceType.CUDA ? 0 : -1;
        }

        public Device(DeviceType deviceType, int index = -1)
        {
            type = deviceType;
            this.index = deviceType == DeviceType.CUDA && index < 0 ? 0 : index;
        }

        public DeviceType type { get; }

        public int index { get; }

        public override string ToString() => index >= 0 && type != DeviceType.CPU
            ? string.Create(CultureInfo.InvariantCulture, $"{type.ToString().ToLowerInvariant()}:{index}")
            : type.ToString().ToLowerInvariant();
    }

    public static Device CPU = new(DeviceType.CPU, -1);

    public static Device META = new(DeviceType.META, -1);

    public static Device CUDA { get; } = new(DeviceType.CUDA, 0);

    public static Device device(string description) => new(description);
    public static Device device(DeviceType deviceType, int index = -1) => new(deviceType, index);
}

public enum DeviceType
{
    CPU = 0,
    CUDA = 1,
    MKLDNN = 2,
    OPENGL = 3,
    OPENCL = 4,
    IDEEP = 5,
    HIP = 6,
    FPGA = 7,
    MSNPU = 8,
    XLA = 9,
    MPS = 13,
    META = 14,
}
