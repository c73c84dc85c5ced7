using System.Diagnostics.CodeAnalysis;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Named tensors whose bytes can be had one by one: a single file or a checkpoint of many shards. Safe for any number of
/// readers at once.</summary>
public interface ITensorSource
{
    /// <summary>Where the tensors come from, for messages: a file or a folder.</summary>
    string Location { get; }

    /// <summary>All tensors, in the order in which they lie in the file, shard after shard.</summary>
    IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>Finds a tensor by its name.</summary>
    /// <param name="name">The name.</param>
    /// <param name="entry">The tensor, where there is one.</param>
    /// <returns>Whether there is one.</returns>
    bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry);

    /// <summary>Copies a part of a tensor's bytes.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="offset">The first byte of the part, counted from the tensor's start.</param>
    /// <param name="destination">Where to put the bytes; it is filled.</param>
    /// <exception cref="InvalidDataException">There is no such tensor, or the file has become shorter since it was opened.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The part does not lie within the tensor.</exception>
    /// <exception cref="IOException">The disk failed.</exception>
    /// <exception cref="ObjectDisposedException">The source was disposed.</exception>
    void CopyTo(string name, long offset, Span<byte> destination);
}
