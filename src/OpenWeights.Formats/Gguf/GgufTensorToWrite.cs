namespace OpenWeights.Formats.Gguf;

/// <summary>A tensor to write: its description, and a callback that writes its bytes when their turn comes.</summary>
public sealed class GgufTensorToWrite
{
    private const int LongestName = 63;

    /// <summary>Describes a tensor to write.</summary>
    /// <param name="name">Its name, of less than 64 bytes.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">The dimensions, outermost first.</param>
    /// <param name="write">Writes exactly the tensor's bytes to the stream it is given.</param>
    /// <exception cref="ArgumentException">The name is too long, or the rows are no whole blocks.</exception>
    public GgufTensorToWrite(string name, GgufType type, IReadOnlyList<long> shape, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(shape);
        ArgumentNullException.ThrowIfNull(write);
        if (System.Text.Encoding.UTF8.GetByteCount(name) > LongestName || shape.Count is 0 or > 4 || shape[^1] % type.BlockLength() != 0)
        {
            throw new ArgumentException($"a GGUF file cannot hold the tensor {Wording.Quote(name)} {type} {Wording.Shape(shape)}", nameof(shape));
        }

        Info = new GgufTensorInfo(name, type, [.. shape], 0);
        WriteBytes = write;
    }

    /// <summary>Name, type and shape.</summary>
    public GgufTensorInfo Info { get; }

    internal Action<Stream> WriteBytes { get; }

    /// <summary>Writes the tensor's bytes.</summary>
    /// <param name="stream">Where to.</param>
    public void WriteTo(Stream stream) => WriteBytes(stream);
}
