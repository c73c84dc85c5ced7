using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A frozen weight of a linear layer in few bits. Its values exist only a few rows at a time, while they are computed with.</summary>
public abstract class QuantizedWeight : IDisposable
{
    // Values that are made at once: 16 MiB as float32.
    private const long PartElements = 1 << 22;

    private protected QuantizedWeight(long outFeatures, long inFeatures, long grain)
    {
        OutFeatures = outFeatures;
        InFeatures = inFeatures;
        var step = grain / (long)System.Numerics.BigInteger.GreatestCommonDivisor(grain, inFeatures);
        PartRows = Math.Max(step, PartElements / inFeatures / step * step);
    }

    /// <summary>Width of the output.</summary>
    public long OutFeatures { get; }

    /// <summary>Width of the input.</summary>
    public long InFeatures { get; }

    /// <summary>The number of weights.</summary>
    public long Count => OutFeatures * InFeatures;

    /// <summary>The bytes of everything that is held.</summary>
    public abstract long ByteLength { get; }

    /// <summary>The rows that are best made at once; rows that are asked for start at a multiple of it.</summary>
    internal long PartRows { get; }

    /// <summary>The values of some rows, [count, in].</summary>
    /// <param name="start">The first row.</param>
    /// <param name="count">The number of rows.</param>
    /// <param name="dtype">The dtype of the values; they are computed in float32.</param>
    public abstract Tensor Rows(long start, long count, ScalarType dtype);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what is held.</summary>
    private protected abstract void Dispose(bool disposing);

    /// <summary>The parts of all rows: start and count.</summary>
    internal IEnumerable<(long Start, long Count)> Parts()
    {
        for (long start = 0; start < OutFeatures; start += PartRows)
        {
            yield return (start, Math.Min(PartRows, OutFeatures - start));
        }
    }
}
