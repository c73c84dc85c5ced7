using OpenWeights.Formats.Quantized;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A weight as a quantised checkpoint holds it.</summary>
internal sealed class PackedWeight : QuantizedWeight
{
    private readonly PackedCodes _packed;

    /// <summary>Puts a checkpoint's matrix on a device, without unpacking it.</summary>
    /// <param name="matrix">The matrix, [out, in].</param>
    /// <param name="device">The device.</param>
    public PackedWeight(PackedMatrix matrix, Device device)
        : base(Required(matrix).OutFeatures, matrix.InFeatures, matrix.Columns == matrix.InFeatures ? 1 : matrix.Columns) => _packed = new PackedCodes(matrix, device);

    /// <inheritdoc/>
    public override long ByteLength => _packed.ByteLength;

    /// <inheritdoc/>
    internal override PackedCodes Packed => _packed;

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype) => Rows(_packed, start, count, dtype);

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _packed.Dispose();
        }
    }

    private static PackedMatrix Required(PackedMatrix matrix)
    {
        ArgumentNullException.ThrowIfNull(matrix);
        return matrix;
    }
}
