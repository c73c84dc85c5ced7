namespace OpenWeights.Formats.Safetensors;

/// <summary>What follows from the members of <see cref="ITensorSource"/>.</summary>
public static class TensorSourceExtensions
{
    /// <summary>Finds a tensor that must be there.</summary>
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

    /// <summary>A small tensor's bytes in an array of their own.</summary>
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
