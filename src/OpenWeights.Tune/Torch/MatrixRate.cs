using System.Diagnostics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>How fast this machine multiplies matrices: the limit that a training step is measured against.</summary>
public static class MatrixRate
{
    /// <summary>The median rate of a few products of square matrices, in floating-point operations per second.</summary>
    /// <param name="dtype">The dtype of the factors.</param>
    /// <param name="device">Where to multiply.</param>
    /// <param name="size">Rows and columns of each factor.</param>
    public static double Measure(ScalarType dtype, Device device, int size = 1024)
    {
        const int rounds = 9;
        using var scope = NewDisposeScope();
        var (a, b) = (randn([size, size], float32, device).to(dtype), randn([size, size], float32, device).to(dtype));
        var rates = new List<double>();
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
