namespace OpenWeights.Formats.Files;

/// <summary>A stream that is only written, from its start to its end, and counts its bytes.</summary>
internal abstract class WriteStream : Stream
{
    private const string ForwardOnly = "the stream is written from its start to its end";

    private long written;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => written;

    public override long Position
    {
        get => written;
        set => throw new NotSupportedException(ForwardOnly);
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        Put(buffer);
        written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void WriteByte(byte value) => Write([value]);

    public override void Flush()
    {
        // The file is flushed as a whole, to the disk, before it is renamed.
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("the stream can only be written");

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException(ForwardOnly);

    public override void SetLength(long value) => throw new NotSupportedException(ForwardOnly);

    /// <summary>Writes the bytes to where they belong.</summary>
    protected abstract void Put(ReadOnlySpan<byte> buffer);
}

/// <summary>Stream for writing an atomic file; its I/O errors name the file.</summary>
internal sealed class TargetStream(Stream inner, string path) : WriteStream
{
    protected override void Put(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            throw WriteFailure.Explain(path, error);
        }
    }
}

/// <summary>Stream for writing one tensor; it accepts exactly the tensor's number of bytes.</summary>
/// <param name="inner">The file.</param>
/// <param name="tensor">The tensor, for messages.</param>
/// <param name="byteLength">The tensor's size in bytes.</param>
internal sealed class TensorStream(Stream inner, object tensor, long byteLength) : WriteStream
{
    /// <summary>Checks, after the tensor's writer has returned, that it wrote all bytes.</summary>
    public void RequireAll()
    {
        if (Length != byteLength)
        {
            throw new InvalidOperationException($"the tensor {tensor} has {byteLength} bytes, but its writer gave only {Length}");
        }
    }

    protected override void Put(ReadOnlySpan<byte> buffer)
    {
        if (buffer.Length > byteLength - Length)
        {
            throw new InvalidOperationException($"the tensor {tensor} has {byteLength} bytes, but its writer gave more");
        }

        inner.Write(buffer);
    }
}
