using System.Diagnostics.CodeAnalysis;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Named tensors that are read one by one, from a single file or a checkpoint of many shards. Any number of threads may read at
/// once.</summary>
public interface ITensorSource
{
    /// <summary>Where the tensors come from, for messages: a file or a folder.</summary>
    string Location { get; }

    /// <summary>All tensors in file order, shard after shard.</summary>
    IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Finds a tensor by its name.</summary>
    /// <param name="name">The name.</param>
    /// <param name="entry">The tensor, if it exists.</param>
    /// <returns>Whether it exists.</returns>
    bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry);

    /// <summary>Copies a part of a tensor's bytes.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="offset">The first byte of the part, counted from the tensor's start.</param>
    /// <param name="destination">Buffer to fill with the bytes.</param>
    /// <exception cref="InvalidDataException">There is no such tensor, or the file has become shorter since it was opened.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The part does not lie within the tensor.</exception>
    /// <exception cref="IOException">The disk failed.</exception>
    /// <exception cref="ObjectDisposedException">The source was disposed.</exception>
    void CopyTo(string name, long offset, Span<byte> destination);
}

/// <summary>A file that holds weights.</summary>
public interface IWeightFile : ITensorSource, IDisposable;

/// <summary>Extensions of <see cref="ITensorSource"/>.</summary>
public static class TensorSourceExtensions
{
    /// <summary>Finds a tensor by its name; a missing one is an error.</summary>
    /// <param name="source">The tensors.</param>
    /// <param name="name">The tensor's name.</param>
    /// <exception cref="InvalidDataException">There is no such tensor.</exception>
    public static TensorEntry GetTensor(this ITensorSource source, string name)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(name);
        return source.TryGetTensor(name, out var entry)
            ? entry
            : throw new InvalidDataException($"{source.Location} has no tensor {Wording.Quote(name)}; is it the right model?");
    }

    /// <summary>Reads a small tensor's bytes into a new array.</summary>
    /// <param name="source">The tensors.</param>
    /// <param name="name">The tensor.</param>
    /// <exception cref="ArgumentException">The tensor is larger than an array can be (2 GB).</exception>
    /// <exception cref="InvalidDataException">As <see cref="ITensorSource.CopyTo"/>.</exception>
    /// <exception cref="IOException">The disk failed.</exception>
    /// <exception cref="ObjectDisposedException">The source was disposed.</exception>
    public static byte[] ReadBytes(this ITensorSource source, string name)
    {
        var entry = source.GetTensor(name);
        if (entry.ByteLength > Array.MaxLength)
        {
            throw new ArgumentException(
                $"the tensor {entry} has {Wording.Bytes(entry.ByteLength)}, more than one array can hold", nameof(name));
        }

        var bytes = new byte[entry.ByteLength];
        source.CopyTo(name, 0, bytes);
        return bytes;
    }
}
