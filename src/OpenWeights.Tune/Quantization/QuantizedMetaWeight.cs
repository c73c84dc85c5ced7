using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A quantized weight with a size but no values, for estimating a model's memory.</summary>
internal sealed class QuantizedMetaWeight : QuantizedWeight
{
    private const long ScaleBlock = 256;
    private readonly QuantizationSettings _settings;

    internal QuantizedMetaWeight(long outFeatures, long inFeatures, QuantizationSettings settings)
        : base(outFeatures, inFeatures, grain: 1) => _settings = settings;

    /// <inheritdoc/>
    public override long ByteLength
    {
        get
        {
            if (_settings.Kind == QuantizationKind.Int8)
            {
                return Count + (4 * OutFeatures);
            }

            var blocks = (Count + _settings.BlockSize - 1) / _settings.BlockSize;
            var codes = blocks * _settings.BlockSize / 2;
            return codes + (_settings.DoubleQuantization ? blocks + (4 * ((blocks + ScaleBlock - 1) / ScaleBlock)) + 4 : 4 * blocks);
        }
    }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype) => zeros([count, InFeatures], dtype);

    private protected override void Dispose(bool disposing)
    {
    }
}
