using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>The sixteen NF4 levels on a device: quantiles of a normal distribution, as in bitsandbytes.</summary>
internal sealed class Nf4Codes
{
    /// <summary>The levels, as in bitsandbytes (get_4bit_type, "nf4").</summary>
    internal static readonly float[] Levels =
    [
        -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
        -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
        0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
    ];

    private static readonly ConcurrentDictionary<string, Nf4Codes> s_found = new();
    private readonly Tensor _pairs;

    private Nf4Codes(Device device)
    {
        using var scope = NewDisposeScope();
        var middles = Levels.Zip(Levels.Skip(1), static (low, high) => (low + high) / 2).ToArray();
        Middles = scope.Detach(tensor(middles, device: device));

        // The two values of every byte: looking up pairs needs no bit shifts and half the indices; as complex numbers torch copies a pair
        // at once.
        var pairs = Enumerable.Range(0, 256).SelectMany(static b => new[] { Levels[b >> 4], Levels[b & 15] }).ToArray();
        _pairs = scope.Detach(tensor(pairs, [256, 2], device: device).view_as_complex());
    }

    /// <summary>Midpoints of adjacent levels, [15]; a value on a midpoint rounds to the lower level.</summary>
    internal Tensor Middles { get; }

    internal static Nf4Codes Of(Device device) => s_found.GetOrAdd(device.ToString(), static (_, d) => new Nf4Codes(d), device);

    /// <summary>Dequantizes packed codes: [n] bytes to [2 n] float32.</summary>
    internal Tensor Values(Tensor codes) => _pairs.index_select(0, codes.to(ScalarType.Int32)).view_as_real().view(-1);
}
