using OpenWeights.Formats.Files;

namespace OpenWeights.Formats.Gguf;

/// <summary>Writes GGUF files, version 3, little-endian (<see href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"/>).</summary>
public static class GgufWriter
{
    private const uint Version = 3;

    /// <summary>Writes a file, atomically: see <see cref="AtomicFile"/>.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="metadata">The keys, in their order.</param>
    /// <param name="tensors">The tensors, in their order; their bytes are asked for one tensor after another.</param>
    /// <exception cref="ArgumentException">Two tensors have one name.</exception>
    /// <exception cref="InvalidOperationException">A tensor's callback gave more or fewer bytes than the tensor has.</exception>
    /// <exception cref="IOException">The disk is full or refused otherwise.</exception>
    public static void Write(string path, GgufMetadata metadata, IReadOnlyList<GgufTensorToWrite> tensors)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        ArgumentNullException.ThrowIfNull(tensors);
        var twice = tensors.GroupBy(static tensor => tensor.Info.Name).Where(static group => group.Count() > 1).Select(static group => group.Key).ToList();
        if (twice.Count > 0)
        {
            throw new ArgumentException($"these tensor names occur more than once: {Wording.List(twice)}", nameof(tensors));
        }

        var header = Header(metadata, tensors);
        AtomicFile.Write(path, stream => WriteAll(stream, header, tensors), header.Length + tensors.Sum(static tensor => Padded(tensor.Info.ByteLength)));
    }

    private static byte[] Header(GgufMetadata metadata, IReadOnlyList<GgufTensorToWrite> tensors)
    {
        using var stream = new MemoryStream();
        stream.Write("GGUF"u8);
        GgufValues.WriteUInt32(stream, Version);
        GgufValues.WriteUInt64(stream, (ulong)tensors.Count);
        GgufValues.WriteUInt64(stream, (ulong)metadata.Count);
        foreach (var (key, value) in metadata)
        {
            GgufValues.WriteText(stream, key);
            GgufValues.Write(stream, value);
        }

        var offset = 0L;
        foreach (var tensor in tensors)
        {
            WriteInfo(stream, tensor.Info, offset);
            offset += Padded(tensor.Info.ByteLength);
        }

        stream.SetLength(Padded(stream.Length));
        return stream.ToArray();
    }

    private static void WriteInfo(MemoryStream stream, GgufTensorInfo tensor, long offset)
    {
        GgufValues.WriteText(stream, tensor.Name);
        GgufValues.WriteUInt32(stream, (uint)tensor.Shape.Count);
        foreach (var size in tensor.Shape.Reverse())
        {
            GgufValues.WriteUInt64(stream, (ulong)size);
        }

        GgufValues.WriteUInt32(stream, (uint)tensor.Type);
        GgufValues.WriteUInt64(stream, (ulong)offset);
    }

    private static void WriteAll(Stream stream, byte[] header, IReadOnlyList<GgufTensorToWrite> tensors)
    {
        stream.Write(header);
        foreach (var tensor in tensors)
        {
            var length = tensor.Info.ByteLength;
            using var sink = new TensorStream(stream, tensor.Info, length);
            tensor.WriteBytes(sink);
            sink.RequireAll();
            stream.Write(new byte[Padded(length) - length]);
        }
    }

    private static long Padded(long length) => (length + GgufFile.DefaultAlignment - 1) / GgufFile.DefaultAlignment * GgufFile.DefaultAlignment;
}
