using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// The 8-bit dynamic code of bitsandbytes (create_dynamic_map; Dettmers et al., 2022): exponents from 1e-6 to 1, and in the bits
/// that an exponent leaves an even split of 0.1 to 1; with a sign, or without one and twice as fine.
/// </summary>
internal sealed class DynamicCode
{
    private const int ExponentBits = 7;
    private static readonly ConcurrentDictionary<(string, bool), DynamicCode> s_found = new();

    private DynamicCode(bool signed, Device device)
    {
        using var scope = NewDisposeScope();
        var levels = Levels(signed);
        Values = scope.Detach(tensor(levels, device: device));
        Middles = scope.Detach(tensor(levels.Zip(levels.Skip(1), static (low, high) => (low + high) / 2).ToArray(), device: device));
    }

    /// <summary>The levels, rising, [256].</summary>
    internal Tensor Values { get; }

    /// <summary>Halfway between neighbouring levels, [255].</summary>
    internal Tensor Middles { get; }

    internal static DynamicCode Of(bool signed, Device device) => s_found.GetOrAdd((device.ToString(), signed), static (key, d) => new DynamicCode(key.Item2, d), device);

    /// <summary>The levels of a code: 0, 1, and means of neighbouring boundaries.</summary>
    internal static float[] Levels(bool signed)
    {
        var levels = new List<float> { 0, 1 };
        for (var i = 0; i < ExponentBits; i++)
        {
            var parts = 1 << (signed ? i : i + 1);
            var power = Math.Pow(10, i - (ExponentBits - 1));
            for (var k = 0; k < parts; k++)
            {
                // torch.linspace(0.1, 1, parts + 1) counts from the nearer end, in float32; so do the means of neighbours.
                var step = (1f - 0.1f) / parts;
                float Boundary(int at) => at < (parts + 1) / 2 ? 0.1f + (step * at) : 1f - (step * (parts - at));
                var level = (float)(power * ((Boundary(k) + Boundary(k + 1)) / 2f));
                levels.Add(level);
                if (signed)
                {
                    levels.Add(-level);
                }
            }
        }

        levels.Sort();
        return [.. levels];
    }
}
