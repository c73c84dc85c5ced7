using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A frozen, quantized weight of a linear layer. It is dequantized only a few rows at a time, during computation.</summary>
public abstract class QuantizedWeight : IDisposable
{
    // Number of values dequantized at once: 16 MiB as float32.
    private const long PartElements = 1 << 22;

    private protected QuantizedWeight(long outFeatures, long inFeatures, long grain)
    {
        OutFeatures = outFeatures;
        InFeatures = inFeatures;
        var step = grain / (long)System.Numerics.BigInteger.GreatestCommonDivisor(grain, inFeatures);
        PartRows = Math.Max(step, PartElements / inFeatures / step * step);
    }

    /// <summary>Number of output features.</summary>
    public long OutFeatures { get; }

    /// <summary>Number of input features.</summary>
    public long InFeatures { get; }

    /// <summary>Number of weights.</summary>
    public long Count => OutFeatures * InFeatures;

    /// <summary>Size of all stored tensors, in bytes.</summary>
    public abstract long ByteLength { get; }

    /// <summary>Best number of rows to dequantize at once; a requested range must start at a multiple of it.</summary>
    internal long PartRows { get; }

    /// <summary>Dequantizes some rows, [count, in].</summary>
    /// <param name="start">The first row.</param>
    /// <param name="count">Number of rows.</param>
    /// <param name="dtype">Data type of the result; the computation is in float32.</param>
    public abstract Tensor Rows(long start, long count, ScalarType dtype);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees the stored tensors.</summary>
    private protected abstract void Dispose(bool disposing);

    /// <summary>Splits all rows into ranges: start and count.</summary>
    internal IEnumerable<(long Start, long Count)> Parts()
    {
        for (long start = 0; start < OutFeatures; start += PartRows)
        {
            yield return (start, Math.Min(PartRows, OutFeatures - start));
        }
    }
}
