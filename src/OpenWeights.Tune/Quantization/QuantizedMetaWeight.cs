using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A quantized weight with a size but no values, for estimating a model's memory.</summary>
internal sealed class QuantizedMetaWeight : QuantizedWeight
{
    private const long ScaleBlock = 256;

    internal QuantizedMetaWeight(long outFeatures, long inFeatures, QuantizationSettings settings)
        : this(outFeatures, inFeatures, Bytes(outFeatures, outFeatures * inFeatures, settings))
    {
    }

    internal QuantizedMetaWeight(long outFeatures, long inFeatures, long bytes)
        : base(outFeatures, inFeatures, grain: 1) => ByteLength = bytes;

    /// <inheritdoc/>
    public override long ByteLength { get; }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype) => zeros([count, InFeatures], dtype);

    private protected override void Dispose(bool disposing)
    {
    }

    private static long Bytes(long outputs, long count, QuantizationSettings settings)
    {
        if (settings.Kind == QuantizationKind.Int8)
        {
            return count + (4 * outputs);
        }

        var blocks = (count + settings.BlockSize - 1) / settings.BlockSize;
        var codes = blocks * settings.BlockSize / 2;
        return codes + (settings.DoubleQuantization ? blocks + (4 * ((blocks + ScaleBlock - 1) / ScaleBlock)) + 4 : 4 * blocks);
    }
}
