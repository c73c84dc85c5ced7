using System.Runtime.InteropServices;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Formats.Safetensors;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Writes a matrix a few rows at a time: converted to float32, brought into the form that its family requires, then encoded.
/// </summary>
internal sealed class TensorRows
{
    private const long ChunkElements = 1 << 22;

    private readonly long _rows;
    private readonly int _rowLength;
    private readonly GgufType _type;
    private readonly GgufForm _form;

    internal TensorRows(IReadOnlyList<long> shape, GgufType type, GgufForm form)
    {
        _rowLength = checked((int)(shape.Count < 2 ? 1 : shape[^1]));
        _rows = shape.Count switch
        {
            0 => 1,
            1 => shape[0],
            _ => shape.Take(shape.Count - 1).Aggregate(1L, static (product, size) => product * size),
        };
        (_type, _form) = (type, form);
    }

    /// <summary>Writes a tensor of a checkpoint, or a part of one.</summary>
    /// <param name="stream">Destination.</param>
    /// <param name="source">The checkpoint.</param>
    /// <param name="entry">The tensor.</param>
    /// <param name="first">First element of the part.</param>
    internal void Write(Stream stream, ITensorSource source, TensorEntry entry, long first) =>
        Write(stream, (firstRow, values) => Read(source, entry, first + (firstRow * _rowLength), values));

    /// <summary>Writes values that are there already.</summary>
    /// <param name="stream">Destination.</param>
    /// <param name="all">The values.</param>
    internal void Write(Stream stream, float[] all) => Write(stream, (firstRow, values) => all.AsSpan(checked((int)(firstRow * _rowLength)), values.Length).CopyTo(values));

    /// <summary>Reads a part of a checkpoint's tensor as float32.</summary>
    /// <param name="source">The checkpoint.</param>
    /// <param name="entry">The tensor.</param>
    /// <param name="first">First element of the part.</param>
    /// <param name="values">Destination; it is filled.</param>
    internal static void Read(ITensorSource source, TensorEntry entry, long first, Span<float> values)
    {
        var type = entry.DType switch
        {
            DType.F32 => GgufType.F32,
            DType.F16 => GgufType.F16,
            DType.BF16 => GgufType.BF16,
            _ => throw new InvalidDataException($"{entry.FilePath}: tensor {entry.Name} has the element type {entry.DType}, which cannot be converted to GGUF; convert the model to BF16, F16 or F32 first."),
        };
        var bytes = new byte[type.Bytes(values.Length)];
        source.CopyTo(entry.Name, type.Bytes(first), bytes);
        BlockDecoder.Decode(type, bytes, values);
    }

    /// <summary>Writes a float32 tensor on the CPU.</summary>
    internal void Write(Stream stream, Tensor tensor) => Write(stream, (firstRow, values) =>
    {
        using var scope = NewDisposeScope();
        var part = tensor.view(_rows, _rowLength).narrow(0, firstRow, values.Length / _rowLength).contiguous();
        MemoryMarshal.Cast<byte, float>(part.bytes).CopyTo(values);
    });

    /// <summary>Writes a tensor of zeros.</summary>
    internal void WriteZeros(Stream stream) => Write(stream, static (_, _) => { });

    private void Write(Stream stream, FillRows fill)
    {
        var (rows, chunk) = (_form.Rows?.Count ?? _rows, Math.Max(1, ChunkElements / _rowLength));
        for (long row = 0; row < rows; row += chunk)
        {
            var count = (int)Math.Min(chunk, rows - row);
            var values = new float[count * _rowLength];
            Fill(fill, row, values);
            Change(row, values);
            stream.Write(Encode(values, count));
        }
    }

    // Rows that follow each other in the checkpoint too are read at once.
    private void Fill(FillRows fill, long first, float[] values)
    {
        if (_form.Rows is not { } order)
        {
            fill(first, values);
            return;
        }

        var count = values.Length / _rowLength;
        for (var start = 0; start < count;)
        {
            var end = start + 1;
            while (end < count && order[(int)first + end] == order[(int)first + end - 1] + 1)
            {
                end++;
            }

            fill(order[(int)first + start], values.AsSpan(start * _rowLength, (end - start) * _rowLength));
            start = end;
        }
    }

    private void Change(long first, float[] values)
    {
        for (var row = 0; row < values.Length / _rowLength; row++)
        {
            var own = values.AsSpan(row * _rowLength, _rowLength);
            if (_form.Columns is { } columns)
            {
                var stored = own.ToArray();
                for (var i = 0; i < own.Length; i++)
                {
                    own[i] = stored[columns[i]];
                }
            }

            if (_form.ChangesValues)
            {
                var factor = _form.Factor(first + row);
                foreach (ref var value in own)
                {
                    value = _form.IsNegativeExponential ? -MathF.Exp(value) : (value * factor) + _form.Offset;
                }
            }
        }
    }

    private byte[] Encode(float[] values, int rows)
    {
        if (_rowLength == 1)
        {
            var single = new byte[_type.Bytes(values.Length)];
            BlockEncoder.Encode(_type, values, single);
            return single;
        }

        var rowBytes = (int)_type.Bytes(_rowLength);
        var bytes = new byte[rows * rowBytes];
        _ = Parallel.For(0, rows, row => BlockEncoder.Encode(_type, values.AsSpan(row * _rowLength, _rowLength), bytes.AsSpan(row * rowBytes, rowBytes)));
        return bytes;
    }

    private delegate void FillRows(long firstRow, Span<float> values);
}
