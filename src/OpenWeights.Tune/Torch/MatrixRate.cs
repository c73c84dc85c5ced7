using System.Diagnostics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Measures the speed of matrix multiplication, to which the speed of a training step is compared.</summary>
internal static class MatrixRate
{
    private const int OnCpu = 1024;
    private const int LargestOnGpu = 8192;

    // A GPU that computes the product in less time mostly measured launch and synchronization.
    private const double MinSecondsOnGpu = 1e-3;

    /// <summary>Median rate of several products of square matrices, in floating-point operations per second.</summary>
    /// <param name="dtype">Data type of the factors.</param>
    /// <param name="device">The device.</param>
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
