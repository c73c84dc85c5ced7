using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// The 8-bit dynamic data type of bitsandbytes (create_dynamic_map; Dettmers et al., 2022): exponents from 1e-6 to 1; the bits not used by
/// the exponent divide 0.1 to 1 evenly. Signed, or unsigned with twice the resolution.
/// </summary>
internal sealed class DynamicCode
{
    private const int ExponentBits = 7;
    private static readonly ConcurrentDictionary<(string, bool), DynamicCode> s_found = new();

    private static readonly Lazy<float[]> s_signedLevels = new(static () => Levels(signed: true));
    private static readonly Lazy<float[]> s_unsignedLevels = new(static () => Levels(signed: false));
    private static readonly Lazy<byte[]> s_signed = new(static () => Table(Levels(signed: true)));
    private static readonly Lazy<byte[]> s_unsigned = new(static () => Table(Levels(signed: false)));

    private DynamicCode(bool signed, Device device)
    {
        using var scope = NewDisposeScope();
        var levels = Levels(signed);
        Values = scope.Detach(tensor(levels, device: device));
        Middles = scope.Detach(tensor(levels.Zip(levels.Skip(1), static (low, high) => (low + high) / 2).ToArray(), device: device));
    }

    /// <summary>The levels in ascending order, [256].</summary>
    internal Tensor Values { get; }

    /// <summary>Midpoints of adjacent levels, [255].</summary>
    internal Tensor Middles { get; }

    internal static DynamicCode Of(bool signed, Device device) => s_found.GetOrAdd((device.ToString(), signed), static (key, d) => new DynamicCode(key.Item2, d), device);

    /// <summary>
    /// Codes of 65,536 evenly spaced numbers from -1 to 1, by which bitsandbytes quantizes on a CPU (csrc/cpu_ops.cpp): a number has the code
    /// nearest to the number of the table that is nearest to it.
    /// </summary>
    internal static byte[] TableOf(bool signed) => (signed ? s_signed : s_unsigned).Value;

    /// <summary>The levels in ascending order, computed once.</summary>
    internal static float[] LevelsOf(bool signed) => (signed ? s_signedLevels : s_unsignedLevels).Value;

    private static byte[] Table(float[] levels)
    {
        var table = new byte[1 << 16];
        var code = 0;
        for (var i = 0; i < table.Length; i++)
        {
            var value = -1f + (2f * i / (table.Length - 1));
            while (code < levels.Length - 1 && 0.5f * (levels[code] + levels[code + 1]) < value)
            {
                code++;
            }

            table[i] = (byte)code;
        }

        return table;
    }

    /// <summary>The levels of the data type: 0, 1, and midpoints of adjacent boundaries.</summary>
    internal static float[] Levels(bool signed)
    {
        var levels = new List<float> { 0, 1 };
        for (var i = 0; i < ExponentBits; i++)
        {
            var parts = 1 << (signed ? i : i + 1);
            var power = (float)Math.Pow(10, i - (ExponentBits - 1));
            for (var k = 0; k < parts; k++)
            {
                // torch.linspace(0.1, 1, parts + 1) interpolates from the nearer end, in float32 with fused multiply-adds; all else is float32 as well.
                var step = (1f - 0.1f) / parts;
                float Boundary(int at) => at < (parts + 1) / 2 ? MathF.FusedMultiplyAdd(step, at, 0.1f) : MathF.FusedMultiplyAdd(-step, parts - at, 1f);
                var level = power * ((Boundary(k) + Boundary(k + 1)) / 2f);
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
