using System.Globalization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Describes this machine's GPUs.</summary>
public static class Gpus
{
    private const double Gibibyte = 1L << 30;

    /// <summary>Describes a GPU: name, compute capability, memory, and the dtype in which bfloat16 models are computed.</summary>
    /// <param name="index">Its index in torch.</param>
    public static string Describe(int index)
    {
        var device = new Device(DeviceType.CUDA, index);
        var bfloat16Runs = Devices.HasBFloat16(device) ? "bfloat16" : "float16 with loss scaling (Gemma models in float32)";
        return CudaDriver.Read(index) is { } gpu
            ? string.Create(CultureInfo.InvariantCulture, $"{device}: {gpu.Name}, compute capability {gpu.Major}.{gpu.Minor}, {gpu.FreeBytes / Gibibyte:F1} GiB free of {gpu.TotalBytes / Gibibyte:F1}; dtype auto runs bfloat16 models in {bfloat16Runs}")
            : $"{device}: the driver gives no information";
    }
}
