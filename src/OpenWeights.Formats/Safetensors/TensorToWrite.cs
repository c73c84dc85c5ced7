using System.Buffers;

namespace OpenWeights.Formats.Safetensors;

/// <summary>A tensor to write: its description, and a callback that writes its bytes when their turn comes, so that no large tensor is in
/// memory twice.</summary>
public sealed class TensorToWrite
{
    private const int ChunkLength = 4 << 20;

    /// <summary>Describes a tensor to write.</summary>
    /// <param name="name">Its name in the file.</param>
    /// <param name="dtype">The element type.</param>
    /// <param name="shape">The dimensions, outermost first; empty for a scalar.</param>
    /// <param name="write">Writes exactly <see cref="ByteLength"/> bytes, little-endian and in C order, to the stream it is given,
    /// in any number of calls.</param>
    /// <exception cref="ArgumentException">The shape is negative, too large, or does not fill whole bytes, or the name cannot stand
    /// in a file.</exception>
    public TensorToWrite(string name, DType dtype, IReadOnlyList<long> shape, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(shape);
        ArgumentNullException.ThrowIfNull(write);
        if (name == HeaderJson.MetadataName)
        {
            throw new ArgumentException(
                $"a tensor cannot be named {name}: the format keeps that name for the file's metadata", nameof(name));
        }

        Name = name;
        DType = dtype;
        Shape = Array.AsReadOnly<long>([.. shape]);
        ByteLength = TensorSize.Bytes(dtype, Shape, out var problem)
            ?? throw new ArgumentException($"the tensor {Wording.Quote(name)} cannot be written: {problem}", nameof(shape));
        WriteBytes = write;
    }

    /// <summary>The name in the file.</summary>
    public string Name { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>The dimensions, outermost first.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>The tensor's size in bytes.</summary>
    public long ByteLength { get; }

    internal Action<Stream> WriteBytes { get; }

    /// <summary>A tensor that is copied unchanged from another file, a few megabytes at a time.</summary>
    /// <param name="source">Where it comes from; it must stay open until the file is written.</param>
    /// <param name="name">Its name there.</param>
    /// <param name="newName">Its name in the file to write; left out: the same.</param>
    /// <exception cref="InvalidDataException">The source has no such tensor.</exception>
    public static TensorToWrite FromSource(ITensorSource source, string name, string? newName = null)
    {
        var entry = source.GetTensor(name);
        return new TensorToWrite(newName ?? name, entry.DType, entry.Shape, stream => CopyInChunks(source, entry, stream));
    }

    /// <summary>Name, element type and shape, for messages.</summary>
    public override string ToString() => $"{Name} {DType} {Wording.Shape(Shape)}";

    private static void CopyInChunks(ITensorSource source, TensorEntry entry, Stream stream)
    {
        var buffer = ArrayPool<byte>.Shared.Rent((int)Math.Min(ChunkLength, entry.ByteLength));
        try
        {
            for (var offset = 0L; offset < entry.ByteLength; offset += buffer.Length)
            {
                var chunk = buffer.AsSpan(0, (int)Math.Min(buffer.Length, entry.ByteLength - offset));
                source.CopyTo(entry.Name, offset, chunk);
                stream.Write(chunk);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
