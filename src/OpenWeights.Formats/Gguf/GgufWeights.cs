using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// The weights of a GGUF file under the names of a Hugging Face checkpoint of its family, with rows in the same order and norms
/// without the added 1. Half-precision tensors keep their type; quantized ones are read as float32.
/// </summary>
public sealed class GgufWeights : IWeightFile
{
    private readonly GgufFile file;
    private readonly GgufFamily family;
    private readonly int heads;
    private readonly int keyValueHeads;
    private readonly Dictionary<string, (TensorEntry Entry, GgufTensorInfo Tensor, long FirstRow)> byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, GgufPieces> composed = new(StringComparer.Ordinal);

    private GgufWeights(GgufFile file)
    {
        this.file = file;
        family = GgufFamilies.Of(file);
        heads = file.Metadata.Int($"{family.Architecture}.attention.head_count") ?? 1;
        keyValueHeads = file.Metadata.Find($"{family.Architecture}.attention.head_count_kv") is Array ? heads : file.Metadata.Int($"{family.Architecture}.attention.head_count_kv") ?? heads;
        foreach (var tensor in file.Tensors.Where(static t => !RopeScaling.IsTable(t.Name)))
        {
            if (family.PieceOf(tensor.Name) is { } piece)
            {
                Compose(piece.Split, piece.Name);
                continue;
            }

            if (!family.TryToHuggingFace(tensor.Name, out var name))
            {
                throw new InvalidDataException($"{file.Location}: the architecture {family.Architecture} has no known tensor {Wording.Quote(tensor.Name)}.");
            }

            Add(tensor, name);
        }

        Tensors = [.. byName.Values.Select(static found => found.Entry), .. composed.Values.Select(static found => found.Entry)];
    }

    /// <inheritdoc/>
    public string Location => file.Location;

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Opens a file.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The weights; dispose them.</returns>
    /// <exception cref="InvalidDataException">It is no GGUF file of a family that is known here.</exception>
    public static GgufWeights Open(string path)
    {
        var file = GgufFile.Open(path);
        try
        {
            return new GgufWeights(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        entry = composed.GetValueOrDefault(name)?.Entry ?? byName.GetValueOrDefault(name).Entry;
        return entry is not null;
    }

    /// <inheritdoc/>
    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        var entry = this.GetTensor(name);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);
        if (composed.TryGetValue(name, out var pieces))
        {
            pieces.CopyTo(offset, destination);
            return;
        }

        // A vector whose elements are permuted is treated as a matrix of one column.
        var (_, tensor, firstRow) = byName[name];
        var rowLength = tensor.Shape.Count == 1 ? 1 : tensor.RowLength;
        var size = entry.DType.BitSize() / 8;
        var (rowBytes, rows) = (checked((int)(rowLength * size)), entry.ByteLength / (rowLength * size));
        var row = new byte[rowBytes];
        for (var done = 0; done < destination.Length;)
        {
            var (number, within) = Math.DivRem(offset + done, rowBytes);
            var count = (int)Math.Min(rowBytes - within, destination.Length - done);
            ReadRow(tensor, entry.DType, firstRow + StoredRow(tensor.Name, number, rows), rowLength, row);
            row.AsSpan((int)within, count).CopyTo(destination[done..]);
            done += count;
        }
    }

    /// <summary>Closes the file.</summary>
    public void Dispose() => file.Dispose();

    private void Compose(GgufSplit split, string name)
    {
        if (!composed.ContainsKey(name))
        {
            var (_, names) = family.SplitOf(name)!.Value;
            composed.Add(name, new GgufPieces(file, split, name, [.. names.Select(file.GetTensor)]));
        }
    }

    // A tensor of stacked experts corresponds to one checkpoint tensor per expert.
    private void Add(GgufTensorInfo tensor, string name)
    {
        var type = GgufPieces.ReadAs(tensor.Type);
        var isStack = name.Contains('*', StringComparison.Ordinal);
        var isWholeStack = !isStack && tensor.Shape.Count == 3 && tensor.Name.Contains("_exps.", StringComparison.Ordinal);
        if (tensor.Shape.Count > 2 != (isStack || isWholeStack))
        {
            throw new InvalidDataException($"{file.Location}: the tensor {tensor} is {(isStack ? "no stack of" : "not one")} matrices; {Wording.DamagedAdvice}");
        }

        // A matrix of one row is stored without that dimension.
        IReadOnlyList<long> shape = isStack ? [.. tensor.Shape.Skip(1)] : tensor.Shape.Count == 1 && family.IsRow(tensor.Name) ? [1, tensor.Shape[0]] : tensor.Shape;
        var count = isStack ? tensor.Shape[0] : 1;
        for (var i = 0; i < count; i++)
        {
            var own = isStack ? GgufPlace.OfExpert(name, i) : name;
            var entry = new TensorEntry(own, type, shape, checked(shape.Aggregate(1L, static (product, size) => product * size) * type.BitSize() / 8), file.Location, tensor.FileOffset)
            {
                IsQuantized = GgufPieces.IsQuantized(tensor.Type),
            };
            byName.Add(own, (entry, tensor, isStack ? i * shape[0] : 0));
        }
    }

    /// <summary>The row of the file for a row of the checkpoint: from interleaved to split-half layout.</summary>
    private long StoredRow(string name, long row, long rows)
    {
        var paired = family.PairedHeads(name, heads, keyValueHeads);
        if (paired == 0)
        {
            return row;
        }

        var (head, inner) = Math.DivRem(row, rows / paired);
        var half = rows / paired / 2;
        return (head * half * 2) + (inner % half * 2) + (inner / half);
    }

    private void ReadRow(GgufTensorInfo tensor, DType type, long row, long rowLength, Span<byte> destination)
    {
        if (type != DType.F32)
        {
            file.ReadBytes(tensor, row * destination.Length, destination);
            return;
        }

        var values = MemoryMarshal.Cast<byte, float>(destination);
        if (rowLength == 1)
        {
            file.ReadBytes(tensor, row * sizeof(float), destination);
        }
        else
        {
            file.ReadRows(tensor, row, values);
        }

        if (family.NormOffset != 0 && GgufFamily.IsNorm(tensor.Name))
        {
            foreach (ref var value in values)
            {
                value -= family.NormOffset;
            }
        }
    }
}
