using System.Runtime.InteropServices;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Gguf;

/// <summary>A tensor of a GGUF file that holds a checkpoint's tensor, or rows of one.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Form">How it follows from the checkpoint's.</param>
/// <param name="FirstRow">The first row in the file, for one of several stacked matrices.</param>
/// <param name="Shape">The shape of what it holds, in the checkpoint.</param>
internal sealed record GgufPart(GgufTensorInfo Tensor, GgufForm Form, long FirstRow, IReadOnlyList<long> Shape)
{
    /// <summary>Length of a row; a vector has rows of one element.</summary>
    internal long RowLength => Tensor.Shape.Count < 2 ? 1 : Tensor.RowLength;

    internal long Rows => Shape.Aggregate(1L, static (product, size) => product * size) / RowLength;
}

/// <summary>A checkpoint's tensor as it is read from a GGUF file.</summary>
internal sealed class GgufStored
{
    private readonly GgufFile? _file;
    private readonly IReadOnlyList<GgufPart> _parts;
    private readonly float[]? _values;

    // For each row of the checkpoint the part that has it, and its row there; null if the only part has all in the same order.
    private readonly (int Part, long Row)[]? _places;

    private GgufStored(TensorEntry entry, GgufFile? file, IReadOnlyList<GgufPart> parts, (int Part, long Row)[]? places, float[]? values)
    {
        (Entry, _file, _parts, _places, _values) = (entry, file, parts, places, values);
    }

    internal TensorEntry Entry { get; }

    /// <summary>A tensor that the file has, whole or in parts.</summary>
    /// <exception cref="InvalidDataException">The parts do not make up a tensor.</exception>
    internal static GgufStored Of(string name, IReadOnlyList<GgufPart> parts, GgufFile file)
    {
        var (first, rows) = (parts[0], parts.Sum(static p => p.Rows));
        long[] shape = [.. first.Shape];
        if (parts.Count > 1)
        {
            var at = Math.Max(0, shape.Length - 2);
            shape[at] = shape[at] * rows / first.Rows;
        }

        var types = parts.Select(static p => p.Form.ChangesValues ? GgufType.F32 : p.Tensor.Type).Distinct().ToList();
        var type = types switch
        {
            [GgufType.F16] => DType.F16,
            [GgufType.BF16] => DType.BF16,
            _ => DType.F32,
        };
        var elements = shape.Aggregate(1L, static (product, size) => product * size);
        var entry = new TensorEntry(name, type, shape, checked(elements * type.BitSize() / 8), file.Location, first.Tensor.FileOffset)
        {
            IsQuantized = parts.Any(static p => p.Tensor.Type is not (GgufType.F32 or GgufType.F16 or GgufType.BF16)),
        };
        return new GgufStored(entry, file, parts, Places(name, parts, rows, file), values: null);
    }

    /// <summary>A tensor whose values are among the file's keys.</summary>
    internal static GgufStored Of(GgufSettingTensor tensor, GgufFile file) =>
        new(new TensorEntry(tensor.Name, DType.F32, tensor.Shape, tensor.Values.Length * sizeof(float), file.Location, 0), file: null, [], places: null, tensor.Values);

    /// <summary>Reads a part of the tensor.</summary>
    /// <param name="offset">The first byte.</param>
    /// <param name="destination">Where to put the bytes; it is filled.</param>
    internal void CopyTo(long offset, Span<byte> destination)
    {
        if (_values is not null)
        {
            MemoryMarshal.AsBytes<float>(_values).Slice((int)offset, destination.Length).CopyTo(destination);
            return;
        }

        var size = Entry.DType.BitSize() / 8;
        var rowBytes = checked((int)(_parts[0].RowLength * size));
        var row = new byte[rowBytes];
        for (var done = 0; done < destination.Length;)
        {
            var (number, within) = Math.DivRem(offset + done, rowBytes);
            var count = (int)Math.Min(rowBytes - within, destination.Length - done);
            var (part, stored) = _places is null ? (0, _parts[0].FirstRow + number) : _places[number];
            ReadRow(_parts[part], stored, row, size);
            row.AsSpan((int)within, count).CopyTo(destination[done..]);
            done += count;
        }
    }

    /// <summary>The tensor as the file has it; null for what is no matrix of one quantised type whose values are the checkpoint's.</summary>
    internal GgufMatrix? Matrix()
    {
        var type = _parts.Count == 0 ? GgufType.F32 : _parts[0].Tensor.Type;
        return Entry.Shape.Count == 2 && GgufPieces.IsQuantized(type) && _parts.All(part => part.Tensor.Type == type && !part.Form.ChangesValues && part.Form.Columns is null && part.RowLength == Entry.Shape[1])
            ? new GgufMatrix(type, Entry.Shape[0], Entry.Shape[1], CopyBlocks)
            : null;
    }

    private void CopyBlocks(long firstRow, Memory<byte> blocks)
    {
        var tensor = _parts[0].Tensor;
        var rowBytes = checked((int)tensor.Type.Bytes(tensor.RowLength));
        if (_places is null)
        {
            _file!.ReadBytes(tensor, (_parts[0].FirstRow + firstRow) * rowBytes, blocks.Span);
            return;
        }

        for (var done = 0; done < blocks.Length; done += rowBytes)
        {
            var (part, row) = _places[firstRow + (done / rowBytes)];
            _file!.ReadBytes(_parts[part].Tensor, row * rowBytes, blocks.Span.Slice(done, rowBytes));
        }
    }

    private static (int Part, long Row)[]? Places(string name, IReadOnlyList<GgufPart> parts, long rows, GgufFile file)
    {
        if (parts.Count == 1 && parts[0].Form.Rows is null)
        {
            return null;
        }

        var places = new (int Part, long Row)[rows];
        Array.Fill(places, (-1, -1));
        for (var i = 0; i < parts.Count; i++)
        {
            for (var row = 0; row < parts[i].Rows; row++)
            {
                var own = parts[i].Form.Rows is { } order && row < order.Count ? order[row] : -1;
                if (own < 0 || own >= rows || places[own].Part >= 0 || parts[i].RowLength != parts[0].RowLength)
                {
                    throw new InvalidDataException($"{file.Location}: the tensor {parts[i].Tensor} has not the rows of {name} that the settings say; {Wording.DamagedAdvice}");
                }

                places[own] = (i, parts[i].FirstRow + row);
            }
        }

        return places;
    }

    private void ReadRow(GgufPart part, long row, Span<byte> destination, int size)
    {
        if (Entry.DType != DType.F32)
        {
            _file!.ReadBytes(part.Tensor, row * destination.Length, destination);
        }
        else
        {
            ReadValues(part, row, MemoryMarshal.Cast<byte, float>(destination));
        }

        if (part.Form.Columns is { } columns)
        {
            var stored = destination.ToArray();
            for (var i = 0; i < columns.Count; i++)
            {
                stored.AsSpan(i * size, size).CopyTo(destination.Slice(columns[i] * size, size));
            }
        }
    }

    private void ReadValues(GgufPart part, long row, Span<float> values)
    {
        if (part.Tensor.Shape.Count < 2 && part.Tensor.Type == GgufType.F32)
        {
            _file!.ReadBytes(part.Tensor, row * sizeof(float), MemoryMarshal.AsBytes(values));
        }
        else if (part.Tensor.Shape.Count < 2)
        {
            // An element of a vector lies within a block.
            var whole = new float[part.Tensor.ElementCount];
            _file!.ReadRows(part.Tensor, 0, whole);
            values[0] = whole[row];
        }
        else
        {
            _file!.ReadRows(part.Tensor, row, values);
        }

        if (part.Form.Offset != 0 || part.Form.IsNegativeExponential)
        {
            foreach (ref var value in values)
            {
                value = part.Form.IsNegativeExponential ? MathF.Log(-value) : value - part.Form.Offset;
            }
        }
    }
}
