namespace OpenWeights.Formats.Safetensors;

/// <summary>What follows from the members of <see cref="ITensorSource"/>.</summary>
public static class TensorSourceExtensions
{
    private const int LargestChunk = 1 << 30;

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

    /// <summary>Copies all of a tensor's bytes into memory outside .NET's heap, such as a torch tensor's; tensors above 2 GB too.</summary>
    /// <param name="source">The tensors.</param>
    /// <param name="name">The tensor.</param>
    /// <param name="destination">The first byte of the memory.</param>
    /// <param name="byteLength">The memory's size, which must be the tensor's: a check against writing past its end.</param>
    /// <exception cref="ArgumentException">The sizes differ.</exception>
    /// <exception cref="InvalidDataException">As <see cref="ITensorSource.CopyTo"/>.</exception>
    /// <exception cref="IOException">The disk failed.</exception>
    /// <exception cref="ObjectDisposedException">The source was disposed.</exception>
    public static unsafe void CopyTo(this ITensorSource source, string name, nint destination, long byteLength)
    {
        var entry = source.GetTensor(name);
        if (byteLength != entry.ByteLength)
        {
            throw new ArgumentException(
                $"the destination has {byteLength} bytes, the tensor {entry} has {entry.ByteLength}", nameof(byteLength));
        }

        for (var offset = 0L; offset < byteLength; offset += LargestChunk)
        {
            var length = (int)Math.Min(LargestChunk, byteLength - offset);
            source.CopyTo(name, offset, new Span<byte>((byte*)destination + offset, length));
        }
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
