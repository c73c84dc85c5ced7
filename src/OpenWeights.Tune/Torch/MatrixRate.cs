using System.Diagnostics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>How fast this machine multiplies matrices: the limit that a training step is measured against.</summary>
public static class MatrixRate
{
    private const int OnCpu = 1024;
    private const int LargestOnGpu = 8192;

    // A product that a GPU has in less was mostly handed over and waited for.
    private const double MinSecondsOnGpu = 1e-3;

    /// <summary>The median rate of a few products of square matrices, in floating-point operations per second.</summary>
    /// <param name="dtype">The dtype of the factors.</param>
    /// <param name="device">Where to multiply.</param>
    public static double Measure(ScalarType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        var size = OnCpu;
        if (device.type == TorchSharp.DeviceType.CPU)
        {
            return Measure(dtype, device, size, rounds: 9);
        }

        while (size < LargestOnGpu && 2.0 * size * size * size / Measure(dtype, device, size, rounds: 3) < MinSecondsOnGpu)
        {
            size *= 2;
        }

        return Measure(dtype, device, size, rounds: 9);
    }

    private static double Measure(ScalarType dtype, Device device, int size, int rounds)
    {
        using var scope = NewDisposeScope();
        var (a, b) = (randn([size, size], float32, device).to(dtype), randn([size, size], float32, device).to(dtype));
        var rates = new List<double>();
        Devices.Wait(device);
        for (var i = 0; i < rounds; i++)
        {
            var started = Stopwatch.GetTimestamp();
            using var product = a.mm(b);
            Devices.Wait(device);
            rates.Add(2.0 * size * size * size / Stopwatch.GetElapsedTime(started).TotalSeconds);
        }

        rates.Sort();
        return rates[rates.Count / 2];
    }
}
