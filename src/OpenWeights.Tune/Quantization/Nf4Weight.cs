using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// A weight in NF4 (QLoRA; Dettmers et al., 2023): row-major weights, two codes per byte, and one scale (the absolute maximum) per block. With
/// double quantization the scales, minus their mean, are stored in the 8-bit dynamic data type in blocks of 256.
/// </summary>
internal sealed class Nf4Weight : QuantizedWeight
{
    /// <summary>Number of scales that share a scale of their own.</summary>
    internal const int ScaleBlock = 256;

    /// <summary>The levels, as in bitsandbytes (get_4bit_type, "nf4"): quantiles of a normal distribution.</summary>
    internal static readonly float[] Levels =
    [
        -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
        -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
        0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
    ];

    // Number of weights quantized at once; a multiple of every block size.
    private const long PartElements = 1 << 22;
    private static readonly Scalar s_sixteen = 16L;
    private static readonly Scalar s_least = 1e-38;

    private readonly PackedCodes _packed;

    private Nf4Weight(long outFeatures, long inFeatures, PackedCodes packed)
        : base(outFeatures, inFeatures, packed.Columns) => _packed = packed;

    /// <inheritdoc/>
    public override long ByteLength => _packed.ByteLength + (_packed.Scales.Outer is null ? 0 : sizeof(float));

    /// <inheritdoc/>
    internal override PackedCodes Packed => _packed;

    /// <summary>Quantizes a weight.</summary>
    /// <param name="weight">The weight, [out, in].</param>
    /// <param name="blockSize">Number of weights per scale: a power of two from 32 to 4096.</param>
    /// <param name="doubleQuantization">Whether the scales are quantized as well.</param>
    public static Nf4Weight Of(Tensor weight, int blockSize, bool doubleQuantization)
    {
        ArgumentNullException.ThrowIfNull(weight);
        if (blockSize is < 32 or > 4096 || !int.IsPow2(blockSize))
        {
            throw new ArgumentOutOfRangeException(nameof(blockSize), blockSize, "the block size must be a power of two from 32 to 4096");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var flat = weight.reshape(-1);
        var blocks = (flat.numel() + blockSize - 1) / blockSize;
        var codes = empty([blocks * blockSize / 2], uint8, weight.device);
        var scales = empty([blocks], float32, weight.device);
        var middles = tensor(Levels.Zip(Levels.Skip(1), static (low, high) => (low + high) / 2).ToArray(), device: weight.device);
        for (long start = 0; start < flat.numel(); start += PartElements)
        {
            using var inner = NewDisposeScope();
            var part = Padded(flat.narrow(0, start, Math.Min(PartElements, flat.numel() - start)).to(float32), blockSize).view(-1, blockSize);
            var largest = part.abs().amax(1);
            _ = scales.narrow(0, start / blockSize, largest.numel()).copy_(largest);
            var found = part.mul(largest.clamp_min(s_least).reciprocal().unsqueeze(1)).bucketize(middles, outInt32: true).view(-1, 2);
            _ = codes.narrow(0, start / 2, found.size(0)).copy_(found.narrow(1, 0, 1).add(found.narrow(1, 1, 1), s_sixteen).view(-1));
        }

        return new Nf4Weight(weight.size(0), weight.size(1), new PackedCodes(
            scope.Detach(codes.view(blocks, blockSize / 2)), 4, Levels, doubleQuantization ? QuantizeScales(scales, blockSize) : new PackedScaleStore(scope.Detach(scales.view(-1, 1)), 1, blockSize)));
    }

    /// <summary>What bitsandbytes stores of it.</summary>
    /// <param name="withCodes">Whether the codes are needed.</param>
    internal Nf4State State(bool withCodes)
    {
        using var scope = NewDisposeScope();
        byte[] codes = withCodes ? _packed.Codes.cpu().bytes.ToArray() : [];
        foreach (ref var pair in codes.AsSpan())
        {
            // The first code of two is in the high half there.
            pair = (byte)((pair >> 4) | (pair << 4));
        }

        var scales = _packed.Scales;
        return new Nf4State(codes, scales.Values.cpu().bytes.ToArray(), scales.Outer is null ? [] : System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(scales.Outer.cpu().bytes).ToArray(), scales.Offset);
    }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype) => Rows(_packed, start, count, dtype);

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed.Dispose();
        }
    }

    private static PackedScaleStore QuantizeScales(Tensor scales, int blockSize)
    {
        using var scope = NewDisposeScope();
        var mean = scales.mean();
        var centred = Padded(scales.sub(mean), ScaleBlock).view(-1, ScaleBlock);
        var largest = centred.abs().amax(1);
        var code = DynamicCode.Of(signed: true, scales.device);
        var found = centred.mul(largest.clamp_min(s_least).reciprocal().unsqueeze(1)).bucketize(code.Middles, outInt32: true).view(-1).narrow(0, 0, scales.numel());
        return new PackedScaleStore(
            scope.Detach(found.to(uint8).view(-1, 1)), 1, blockSize, scope.Detach(code.Values.clone()), scope.Detach(largest), ScaleBlock, mean.item<float>());
    }

    private static Tensor Padded(Tensor flat, long multiple)
    {
        var missing = (multiple - (flat.numel() % multiple)) % multiple;
        return missing == 0 ? flat : cat([flat, zeros([missing], float32, flat.device)]);
    }
}

/// <summary>What bitsandbytes stores of a weight in NF4.</summary>
/// <param name="Codes">Two codes a byte, the first in the high half.</param>
/// <param name="Scales">The scales: float32, or bytes if they are quantized as well.</param>
/// <param name="OuterScales">Scales of the scales.</param>
/// <param name="Offset">Added to scales that have scales.</param>
internal sealed record Nf4State(byte[] Codes, byte[] Scales, float[] OuterScales, float Offset);
