using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A weight in 8 bits: integers from -127 to 127 with one scale per output row (absolute maximum of the row / 127).</summary>
public sealed class Int8Weight : QuantizedWeight
{
    private static readonly Scalar s_largest = 127.0;
    private static readonly Scalar s_least = 1e-38;

    private readonly Tensor _codes;
    private readonly Tensor _scales;

    private Int8Weight(Tensor codes, Tensor scales)
        : base(codes.size(0), codes.size(1), grain: 1)
    {
        _codes = codes;
        _scales = scales;
    }

    /// <inheritdoc/>
    public override long ByteLength => _codes.numel() + (4 * _scales.numel());

    /// <summary>Quantizes a weight.</summary>
    /// <param name="weight">The weight, [out, in].</param>
    public static Int8Weight Of(Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var quantized = new Int8Weight(
            scope.Detach(empty(weight.shape, ScalarType.Int8, weight.device)), scope.Detach(empty([weight.size(0), 1], float32, weight.device)));
        foreach (var (start, count) in quantized.Parts())
        {
            using var inner = NewDisposeScope();
            var rows = weight.narrow(0, start, count).to(float32);
            var scales = rows.abs().amax(1).unsqueeze(1).div_(s_largest).clamp_min(s_least);
            _ = quantized._scales.narrow(0, start, count).copy_(scales);
            _ = quantized._codes.narrow(0, start, count).copy_(rows.div(scales).round());
        }

        return quantized;
    }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return _codes.narrow(0, start, count).to(float32).mul_(_scales.narrow(0, start, count)).to(dtype).MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _codes.Dispose();
            _scales.Dispose();
        }
    }
}
