namespace OpenWeights.Formats.Safetensors;

/// <summary>Takes the bytes of one tensor and holds its writer to their number.</summary>
internal sealed class TensorStream(Stream inner, TensorToWrite tensor) : Stream
{
    private long written;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => written;

    public override long Position
    {
        get => written;
        set => throw new NotSupportedException("a tensor is written from its start to its end");
    }

    /// <summary>Checks, after the tensor's writer has returned, that it wrote all bytes.</summary>
    public void RequireAll()
    {
        if (written != tensor.ByteLength)
        {
            throw new InvalidOperationException($"the tensor {tensor} has {tensor.ByteLength} bytes, but its writer gave only {written}");
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (buffer.Length > tensor.ByteLength - written)
        {
            throw new InvalidOperationException($"the tensor {tensor} has {tensor.ByteLength} bytes, but its writer gave more");
        }

        inner.Write(buffer);
        written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void WriteByte(byte value) => Write([value]);

    public override void Flush()
    {
        // The file is flushed as a whole.
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("the stream can only be written");

    public override long Seek(long offset, SeekOrigin origin) =>
        throw new NotSupportedException("a tensor is written from its start to its end");

    public override void SetLength(long value) => throw new NotSupportedException("a tensor is written from its start to its end");
}
