using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A frozen, quantized weight of a linear layer. It is dequantized only a few rows at a time, during computation.</summary>
internal abstract class QuantizedWeight : IDisposable
{
    // Number of values dequantized at once: 16 MiB as float32.
    private const long PartElements = 1 << 22;

    private MatrixRows? _rows;

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

    /// <summary>The weights that it consists of: itself, or those that lie one below the other in it.</summary>
    internal virtual IReadOnlyList<QuantizedWeight> Pieces => [this];

    /// <summary>Best number of rows to dequantize at once; a requested range must start at a multiple of it.</summary>
    internal long PartRows { get; }

    /// <summary>The stored tensors that are as large as the weight, which may be given other memory; null if they must stay where they are.</summary>
    internal virtual IReadOnlyList<Tensor>? Movable => Packed?.Stored;

    /// <summary>Takes note that stored tensors are elsewhere in memory.</summary>
    internal virtual void Moved() => _rows = null;

    /// <summary>The codes; null for a weight that has none of its own.</summary>
    internal virtual PackedCodes? Packed => null;

    /// <summary>The rows in memory, valid as long as the weight is; null if they cannot be multiplied there, as on another device than the CPU.</summary>
    internal MatrixRows? InMemory => BitConverter.IsLittleEndian && CpuKernel.Enabled ? _rows ??= RowsInMemory() : null;

    private protected virtual MatrixRows? RowsInMemory() =>
        Packed is { } packed && packed.Codes.device.type == TorchSharp.DeviceType.CPU && InFeatures % packed.Columns == 0 ? new CodeRows(packed.InMemory(), (nint)InFeatures, (nint)OutFeatures) : null;

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

    /// <summary>Dequantizes some rows of packed codes, which may run on from row to row in blocks.</summary>
    private protected Tensor Rows(PackedCodes packed, long start, long count, ScalarType dtype)
    {
        if (packed.Columns == InFeatures)
        {
            return packed.Read(start, count, dtype);
        }

        using var scope = NewDisposeScope();
        var (first, length) = (start * InFeatures, count * InFeatures);
        var (block, end) = (first / packed.Columns, (first + length + packed.Columns - 1) / packed.Columns);
        var flat = packed.Read(block, end - block, dtype).view(-1);
        return (flat.numel() == length ? flat : flat.narrow(0, first - (block * packed.Columns), length)).view(count, InFeatures).MoveToOuterDisposeScope();
    }

    /// <summary>Splits all rows into ranges: start and count.</summary>
    internal IEnumerable<(long Start, long Count)> Parts()
    {
        for (long start = 0; start < OutFeatures; start += PartRows)
        {
            yield return (start, Math.Min(PartRows, OutFeatures - start));
        }
    }
}
