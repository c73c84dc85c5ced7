using OpenWeights.Formats.Quantized;
using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>
/// Packed codes with their scales on a device: value = (level of the code - zero) x scale. On a CPU they are unpacked by a kernel, on other
/// devices by torch's operators, which need codes of 4 or 8 bits; others take a byte each there.
/// </summary>
internal sealed class PackedCodes : IDisposable
{
    private readonly int _bits;
    private readonly long _rowBytes;
    private readonly Tensor _codes;
    private readonly Tensor _levels;
    private readonly Tensor? _zeros;
    private readonly Tensor? _groups;
    private Tensor? _pairs;
    private Tensor? _columnGroups;

    /// <summary>Puts a matrix on a device.</summary>
    /// <param name="matrix">The matrix, as a checkpoint has it.</param>
    /// <param name="device">The device.</param>
    internal PackedCodes(PackedMatrix matrix, Device device)
    {
        using var scope = NewDisposeScope();
        var isBytes = device.type != DeviceType.CPU && matrix.Bits is not (4 or 8);
        (Rows, Columns, _bits, _rowBytes) = (matrix.Rows, matrix.Columns, isBytes ? 8 : matrix.Bits, isBytes ? matrix.Columns : matrix.RowBytes);
        _codes = scope.Detach(OfBytes(isBytes ? AsBytes(matrix) : matrix.Codes, device, Rows, _rowBytes));
        _levels = scope.Detach(tensor(Padded(matrix.Levels, _bits), device: device));
        AreSigned = ReferenceEquals(matrix.Levels, SmallFloats.SignedBytes);
        Scales = PackedScaleStore.Of(matrix.Scales, device);
        _zeros = matrix.Zeros is null ? null : scope.Detach(OfBytes(matrix.Zeros, device, matrix.Scales.Rows, matrix.Scales.Columns));
        _groups = matrix.Groups is null ? null : scope.Detach(tensor(matrix.Groups, device: device));
    }

    /// <summary>Takes codes and scales over.</summary>
    /// <param name="codes">The codes, [rows, bytes].</param>
    /// <param name="bits">Bits of a code: 4 or 8.</param>
    /// <param name="levels">What the codes mean.</param>
    /// <param name="scales">The scales.</param>
    internal PackedCodes(Tensor codes, int bits, float[] levels, PackedScaleStore scales)
    {
        using var scope = NewDisposeScope();
        (Rows, Columns, _bits, _rowBytes) = (codes.size(0), codes.size(1) * 8 / bits, bits, codes.size(1));
        (_codes, Scales) = (codes, scales);
        _levels = scope.Detach(tensor(Padded(levels, bits), device: codes.device));
        AreSigned = ReferenceEquals(levels, SmallFloats.SignedBytes);
    }

    /// <summary>Number of rows.</summary>
    internal long Rows { get; }

    /// <summary>Codes of a row.</summary>
    internal long Columns { get; }

    /// <summary>The codes, [rows, bytes].</summary>
    internal Tensor Codes => _codes;

    /// <summary>Codes, scales and zeros.</summary>
    internal IReadOnlyList<Tensor> Stored => [_codes, Scales.Values, .. Scales.Outer is { } outer ? [outer] : Array.Empty<Tensor>(), .. _zeros is null ? [] : new[] { _zeros }];

    /// <summary>The scales.</summary>
    internal PackedScaleStore Scales { get; }

    /// <summary>Size of all stored tensors, in bytes.</summary>
    internal long ByteLength => _codes.numel() + Scales.ByteLength + (_zeros?.numel() ?? 0) + (4 * (_groups?.numel() ?? 0));

    private bool AreSigned { get; }

    /// <summary>Unpacks rows, [rows, columns], in the caller's dispose scope.</summary>
    /// <param name="first">First row.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="dtype">Data type of the result; the computation is in float32.</param>
    internal Tensor Read(long first, long rows, ScalarType dtype)
    {
        using var nothing = no_grad();
        return _codes.device.type == DeviceType.CPU ? ReadByKernel(first, rows, dtype) : ReadByOperators(first, rows, dtype);
    }

    /// <summary>The rows in memory, valid as long as this is referenced; only on a CPU.</summary>
    internal unsafe PackedRows InMemory() => new()
    {
        Codes = (byte*)CpuKernel.Pointer(_codes),
        RowBytes = (nint)_rowBytes,
        Columns = (nint)Columns,
        Bits = _bits,
        Levels = (float*)CpuKernel.Pointer(_levels),
        AreSigned = AreSigned,
        Scales = Scales.InMemory(),
        Zeros = _zeros is null ? null : (byte*)CpuKernel.Pointer(_zeros),
        Groups = _groups is null ? null : (int*)CpuKernel.Pointer(_groups),
    };

    /// <summary>As <see cref="Read"/>, by torch's operators.</summary>
    internal Tensor ReadByOperators(long first, long rows, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var values = Levels(first, rows);
        var (from, to) = (first / Scales.BlockRows, ((first + rows - 1) / Scales.BlockRows) + 1);
        var scales = Spread(Scales.Read(from, to - from), first, rows, from);
        if (_zeros is not null)
        {
            _ = values.sub_(Spread(_zeros.narrow(0, from, to - from).to(float32), first, rows, from));
        }

        return values.mul_(scales).to(dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Scales.Dispose();
        foreach (var tensor in new[] { _codes, _levels, _zeros, _groups, _pairs, _columnGroups })
        {
            tensor?.Dispose();
        }
    }

    private unsafe Tensor ReadByKernel(long first, long rows, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var isHalf = dtype == ScalarType.BFloat16;
        var values = empty([rows, Columns], isHalf ? dtype : float32);
        var place = (nint)CpuKernel.Pointer(values);
        UnpackKernel.Run(InMemory(), (nint)first, (nint)rows, (void*)place, isHalf);
        GC.KeepAlive((this, values));
        return values.to(dtype).MoveToOuterDisposeScope();
    }

    // Levels of the codes, [rows, columns], float32.
    private Tensor Levels(long first, long rows)
    {
        var codes = _codes.narrow(0, first, rows);
        if (_bits == 8)
        {
            return _levels.index_select(0, codes.reshape(-1).to(ScalarType.Int32)).view(rows, _rowBytes).narrow(1, 0, Columns).contiguous();
        }

        // The two values of every byte: looking up pairs needs no bit shifts and half the indices; as complex numbers torch copies a pair at once.
        _pairs ??= Pairs().DetachFromDisposeScope();
        return _pairs.index_select(0, codes.reshape(-1).to(ScalarType.Int32)).view_as_real().view(rows, 2 * _rowBytes).narrow(1, 0, Columns).contiguous();
    }

    private Tensor Pairs()
    {
        using var scope = NewDisposeScope();
        var low = _levels.unsqueeze(0).expand(16, 16);
        return stack([low, low.t()], -1).view(256, 2).view_as_complex().MoveToOuterDisposeScope();
    }

    // Numbers of a grid, for each code of some rows.
    private Tensor Spread(Tensor grid, long first, long rows, long from)
    {
        var byRow = Scales.BlockRows == 1 ? grid : grid.index_select(0, tensor([.. Enumerable.Range(0, (int)rows).Select(i => ((first + i) / Scales.BlockRows) - from)], [rows], device: grid.device));
        if (byRow.size(1) == 1)
        {
            return byRow;
        }

        _columnGroups ??= ColumnGroups().DetachFromDisposeScope();
        return byRow.index_select(1, _columnGroups);
    }

    private Tensor ColumnGroups() => _groups?.to(ScalarType.Int64) ?? tensor([.. Enumerable.Range(0, (int)Columns).Select(i => i / Scales.BlockColumns)], [Columns], device: _codes.device);

    private static byte[] AsBytes(PackedMatrix matrix)
    {
        var codes = new byte[matrix.Rows * matrix.Columns];
        for (long row = 0; row < matrix.Rows; row++)
        {
            matrix.ReadCodes(row, codes.AsSpan(checked((int)(row * matrix.Columns)), (int)matrix.Columns));
        }

        return codes;
    }

    private static float[] Padded(float[] levels, int bits)
    {
        var all = new float[bits <= 4 ? 16 : 256];
        levels.CopyTo(all, 0);
        return all;
    }

    /// <summary>Bytes on a device, [rows, columns], in the current dispose scope.</summary>
    internal static Tensor OfBytes(byte[] bytes, Device device, params ReadOnlySpan<long> shape)
    {
        var held = empty([.. shape], uint8);
        bytes.AsSpan(0, checked((int)held.numel())).CopyTo(held.bytes);
        return held.to(device);
    }
}
