using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A grid of scales on a device, in the type in which they are stored.</summary>
internal sealed class PackedScaleStore : IDisposable
{
    private readonly Tensor _values;
    private readonly Tensor? _table;
    private readonly Tensor? _outer;
    private readonly long _outerBlock;
    private readonly float _offset;

    /// <summary>Takes scales over.</summary>
    /// <param name="values">The scales, [rows, columns]: floating-point numbers, or bytes.</param>
    /// <param name="blockRows">Rows of codes that share a row of scales.</param>
    /// <param name="blockColumns">Codes of a row that share a scale.</param>
    /// <param name="table">Values of the bytes, [256].</param>
    /// <param name="outer">Scales of the scales, or null.</param>
    /// <param name="outerBlock">Number of scales that share one of them.</param>
    /// <param name="offset">Added to scales that have scales.</param>
    internal PackedScaleStore(Tensor values, long blockRows, long blockColumns, Tensor? table = null, Tensor? outer = null, long outerBlock = 0, float offset = 0)
    {
        (_values, _table, _outer, _outerBlock, _offset) = (values, table, outer, outerBlock, offset);
        (BlockRows, BlockColumns) = (blockRows, blockColumns);
    }

    /// <summary>Rows of codes that share a row of scales.</summary>
    internal long BlockRows { get; }

    /// <summary>Codes of a row that share a scale.</summary>
    internal long BlockColumns { get; }

    /// <summary>The stored scales, [rows, columns].</summary>
    internal Tensor Values => _values;

    /// <summary>Scales of the scales; null for none.</summary>
    internal Tensor? Outer => _outer;

    /// <summary>Added to scales that have scales.</summary>
    internal float Offset => _offset;

    /// <summary>Size of all stored tensors, in bytes.</summary>
    internal long ByteLength => (_values.numel() * _values.element_size()) + (4 * (_outer?.numel() ?? 0));

    /// <summary>Puts a checkpoint's scales on a device.</summary>
    internal static PackedScaleStore Of(PackedScales scales, Device device)
    {
        using var scope = NewDisposeScope();
        var type = scales.Type switch
        {
            DType.F32 => ScalarType.Float32,
            DType.F16 => ScalarType.Float16,
            DType.BF16 => ScalarType.BFloat16,
            _ => ScalarType.Byte,
        };
        var values = empty([scales.Rows, scales.Columns], type);
        scales.Bytes.CopyTo(values.bytes);
        return new PackedScaleStore(
            scope.Detach(values.to(device)), scales.BlockRows, scales.BlockColumns,
            scales.Table is null ? null : scope.Detach(tensor(scales.Table, device: device)),
            scales.Outer is null ? null : scope.Detach(tensor(scales.Outer, device: device)),
            scales.OuterBlock, scales.Offset);
    }

    /// <summary>Rows of the grid in float32, [rows, columns], in the current dispose scope.</summary>
    internal Tensor Read(long first, long rows)
    {
        var values = _values.narrow(0, first, rows);
        if (_table is null)
        {
            return values.to(float32);
        }

        var found = _table.index_select(0, values.reshape(-1).to(ScalarType.Int32));
        if (_outer is not null)
        {
            var (start, count) = (first * _values.size(1), found.numel());
            var (from, to) = (start / _outerBlock, (start + count + _outerBlock - 1) / _outerBlock);
            var spread = _outer.narrow(0, from, to - from).unsqueeze(1).expand(to - from, _outerBlock).reshape(-1).narrow(0, start - (from * _outerBlock), count);
            using TorchSharp.Scalar offset = _offset;
            found = found.mul(spread).add(offset, Scalars.One);
        }

        return found.view(rows, _values.size(1));
    }

    /// <summary>The scales in memory; only on a CPU.</summary>
    internal unsafe PackedScaleRows InMemory() => new()
    {
        Values = CpuKernel.Pointer(_values),
        Type = _values.dtype switch
        {
            ScalarType.Float32 => PackedScaleType.Float32,
            ScalarType.Float16 => PackedScaleType.Float16,
            ScalarType.BFloat16 => PackedScaleType.BFloat16,
            _ => PackedScaleType.Bytes,
        },
        Columns = (nint)_values.size(1),
        BlockRows = (nint)BlockRows,
        BlockColumns = (nint)BlockColumns,
        Table = _table is null ? null : (float*)CpuKernel.Pointer(_table),
        Outer = _outer is null ? null : (float*)CpuKernel.Pointer(_outer),
        OuterBlock = (nint)_outerBlock,
        Offset = _offset,
    };

    /// <inheritdoc/>
    public void Dispose()
    {
        _values.Dispose();
        _table?.Dispose();
        _outer?.Dispose();
    }
}
