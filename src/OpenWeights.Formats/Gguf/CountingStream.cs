namespace OpenWeights.Formats.Gguf;

/// <summary>Passes bytes on and counts them.</summary>
internal sealed class CountingStream(Stream inner) : Stream
{
    public long Written { get; private set; }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => Written;

    public override long Position
    {
        get => Written;
        set => throw new NotSupportedException("a tensor is written from its start to its end");
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        inner.Write(buffer);
        Written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
        // The file is flushed as a whole.
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("the stream can only be written");

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException("a tensor is written from its start to its end");

    public override void SetLength(long value) => throw new NotSupportedException("a tensor is written from its start to its end");
}
