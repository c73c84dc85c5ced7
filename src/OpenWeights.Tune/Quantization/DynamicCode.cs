using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// The 8-bit dynamic code of bitsandbytes (create_dynamic_map; Dettmers, 2015), on a device: a sign, an exponent from 1e-6 to 1 of varying
/// length, and in the bits that are left an even split of 0.1 to 1.
/// </summary>
internal sealed class DynamicCode
{
    private const int MaxExponentBits = 7;
    private static readonly ConcurrentDictionary<string, DynamicCode> s_found = new();

    private DynamicCode(Device device)
    {
        using var scope = NewDisposeScope();
        var levels = Levels();
        Values = scope.Detach(tensor(levels, device: device));
        Middles = scope.Detach(tensor(levels.Zip(levels.Skip(1), static (low, high) => (low + high) / 2).ToArray(), device: device));
    }

    /// <summary>The levels, rising, [256].</summary>
    internal Tensor Values { get; }

    /// <summary>Halfway between neighbouring levels, [255].</summary>
    internal Tensor Middles { get; }

    internal static DynamicCode Of(Device device) => s_found.GetOrAdd(device.ToString(), static (_, d) => new DynamicCode(d), device);

    /// <summary>The levels: 127 of each sign, 0 and 1.</summary>
    internal static float[] Levels()
    {
        var levels = new List<float> { 0, 1 };
        for (var i = 0; i < MaxExponentBits; i++)
        {
            var parts = 1 << i;
            var power = (float)Math.Pow(10, i - (MaxExponentBits - 1));
            for (var k = 0; k < parts; k++)
            {
                // linspace(0.1, 1, parts + 1) and the means of neighbours, in float32 as there: torch counts from the nearer end.
                float Boundary(int at) => at < (parts + 1) / 2 ? 0.1f + ((1f - 0.1f) / parts * at) : 1f - ((1f - 0.1f) / parts * (parts - at));
                var mean = (Boundary(k) + Boundary(k + 1)) / 2f;
                levels.Add(power * mean);
                levels.Add(-power * mean);
            }
        }

        levels.Sort();
        return [.. levels];
    }
}
