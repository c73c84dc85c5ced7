using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// A weight in NF4 (QLoRA; Dettmers et al., 2023), in bitsandbytes' layout: row-major weights, two codes per byte with the first in the
/// high half, and one scale (the absolute maximum) per block. With double quantization the scales, minus their mean, are stored in the
/// 8-bit
/// dynamic data type in blocks of 256.
/// </summary>
public sealed class Nf4Weight : QuantizedWeight
{
    private const long ScaleBlock = 256;

    // Number of weights quantized at once; a multiple of every block size.
    private const long PartElements = 1 << 22;
    private static readonly Scalar s_one = 1L;
    private static readonly Scalar s_sixteen = 16L;
    private static readonly Scalar s_least = 1e-38;

    private readonly int _blockSize;
    private readonly Tensor _codes;
    private readonly Tensor _scales;
    private readonly Tensor? _scaleCodes;
    private readonly Tensor? _mean;

    private Nf4Weight(long outFeatures, long inFeatures, int blockSize, Tensor codes, Tensor scales, Tensor? scaleCodes, Tensor? mean)
        : base(outFeatures, inFeatures, blockSize)
    {
        _blockSize = blockSize;
        _codes = codes;
        _scales = scales;
        _scaleCodes = scaleCodes;
        _mean = mean;
    }

    /// <inheritdoc/>
    public override long ByteLength => _codes.numel() + (4 * _scales.numel()) + (_scaleCodes?.numel() ?? 0) + (_mean is null ? 0 : 4);

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
        var middles = Nf4Codes.Of(weight.device).Middles;
        for (long start = 0; start < flat.numel(); start += PartElements)
        {
            using var inner = NewDisposeScope();
            var part = Padded(flat.narrow(0, start, Math.Min(PartElements, flat.numel() - start)).to(float32), blockSize).view(-1, blockSize);
            var largest = part.abs().amax(1);
            _ = scales.narrow(0, start / blockSize, largest.numel()).copy_(largest);
            var found = part.mul(largest.clamp_min(s_least).reciprocal().unsqueeze(1)).bucketize(middles, outInt32: true).view(-1, 2);
            _ = codes.narrow(0, start / 2, found.size(0)).copy_(found.narrow(1, 0, 1).mul(s_sixteen).add_(found.narrow(1, 1, 1), s_one).view(-1));
        }

        Tensor? scaleCodes = null, mean = null;
        if (doubleQuantization)
        {
            (scaleCodes, scales, mean) = QuantizeScales(scales);
        }

        return new Nf4Weight(
            weight.size(0), weight.size(1), blockSize, scope.Detach(codes), scope.Detach(scales), scaleCodes?.DetachFromDisposeScope(), mean?.DetachFromDisposeScope());
    }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype)
    {
        var (first, length) = (start * InFeatures, count * InFeatures);
        if (first % _blockSize != 0)
        {
            throw new ArgumentException($"row {start} does not start at a block of {_blockSize} weights", nameof(start));
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var blocks = (length + _blockSize - 1) / _blockSize;
        var values = Nf4Codes.Of(_codes.device).Values(_codes.narrow(0, first / 2, blocks * _blockSize / 2)).view(blocks, _blockSize);
        _ = values.mul_(Scales(first / _blockSize, blocks).unsqueeze(1));
        var rows = values.view(-1);
        return (rows.numel() == length ? rows : rows.narrow(0, 0, length)).view(count, InFeatures).to(dtype).MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _codes.Dispose();
            _scales.Dispose();
            _scaleCodes?.Dispose();
            _mean?.Dispose();
        }
    }

    private static (Tensor Codes, Tensor Scales, Tensor Mean) QuantizeScales(Tensor scales)
    {
        var mean = scales.mean();
        var centred = Padded(scales.sub(mean), ScaleBlock).view(-1, ScaleBlock);
        var largest = centred.abs().amax(1);
        var found = centred.mul(largest.clamp_min(s_least).reciprocal().unsqueeze(1)).bucketize(DynamicCode.Of(signed: true, scales.device).Middles, outInt32: true);
        return (found.view(-1).narrow(0, 0, scales.numel()).to(uint8), largest, mean);
    }

    // The scales of a range of blocks, in float32.
    private Tensor Scales(long first, long blocks)
    {
        if (_scaleCodes is null)
        {
            return _scales.narrow(0, first, blocks);
        }

        // Dequantizes the whole groups of 256 that contain the range.
        var group = first / ScaleBlock;
        var end = Math.Min(_scaleCodes.numel(), (first + blocks + ScaleBlock - 1) / ScaleBlock * ScaleBlock);
        var codes = _scaleCodes.narrow(0, group * ScaleBlock, end - (group * ScaleBlock)).to(ScalarType.Int32);
        var values = Padded(DynamicCode.Of(signed: true, codes.device).Values.index_select(0, codes), ScaleBlock).view(-1, ScaleBlock);
        _ = values.mul_(_scales.narrow(0, group, values.size(0)).unsqueeze(1));
        return values.view(-1).narrow(0, first - (group * ScaleBlock), blocks).add(_mean!, Scalars.One);
    }

    private static Tensor Padded(Tensor flat, long multiple)
    {
        var missing = (multiple - (flat.numel() % multiple)) % multiple;
        return missing == 0 ? flat : cat([flat, zeros([missing], float32, flat.device)]);
    }
}
