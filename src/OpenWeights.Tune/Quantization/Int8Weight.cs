using OpenWeights.Formats.Quantized;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A weight in 8 bits: integers from -127 to 127 with one scale per output row (absolute maximum of the row / 127).</summary>
internal sealed class Int8Weight : QuantizedWeight
{
    // Number of weights quantized at once.
    private const long PartElements = 1 << 22;

    private static readonly Scalar s_largest = 127.0;
    private static readonly Scalar s_least = 1e-38;

    private readonly PackedCodes _packed;

    private Int8Weight(Tensor codes, Tensor scales)
        : base(codes.size(0), codes.size(1), grain: 1) =>
        _packed = new PackedCodes(codes, 8, SmallFloats.SignedBytes, new PackedScaleStore(scales, 1, codes.size(1)));

    /// <inheritdoc/>
    public override long ByteLength => _packed.ByteLength;

    /// <inheritdoc/>
    internal override PackedCodes Packed => _packed;

    /// <summary>Quantizes a weight.</summary>
    /// <param name="weight">The weight, [out, in].</param>
    public static Int8Weight Of(Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (outputs, inputs) = (weight.size(0), weight.size(1));
        var (codes, all) = (empty([outputs, inputs], uint8, weight.device), empty([outputs, 1], float32, weight.device));
        var step = Math.Max(1, PartElements / inputs);
        for (long start = 0; start < outputs; start += step)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(step, outputs - start);
            var rows = weight.narrow(0, start, count).to(float32);
            var scales = rows.abs().amax(1).unsqueeze(1).div_(s_largest).clamp_min(s_least);
            _ = all.narrow(0, start, count).copy_(scales);
            _ = codes.narrow(0, start, count).copy_(rows.div(scales).round().to(ScalarType.Int8));
        }

        return new Int8Weight(scope.Detach(codes), scope.Detach(all));
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
}
