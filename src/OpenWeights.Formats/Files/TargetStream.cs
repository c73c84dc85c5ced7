namespace OpenWeights.Formats.Files;

/// <summary>What a writer of an atomic file sees: forward only, and failures of the disk name the file that is being written.</summary>
internal sealed class TargetStream(Stream inner, string path) : Stream
{
    private long written;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => written;

    public override long Position
    {
        get => written;
        set => throw new NotSupportedException("the stream is written from its start to its end");
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        try
        {
            inner.Write(buffer);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            throw WriteFailure.Explain(path, error);
        }

        written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void WriteByte(byte value) => Write([value]);

    public override void Flush()
    {
        // The file is flushed as a whole, to the disk, before it is renamed.
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException("the stream can only be written");

    public override long Seek(long offset, SeekOrigin origin) =>
        throw new NotSupportedException("the stream is written from its start to its end");

    public override void SetLength(long value) => throw new NotSupportedException("the stream is written from its start to its end");
}
