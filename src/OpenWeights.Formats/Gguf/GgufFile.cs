using Microsoft.Win32.SafeHandles;
using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.Gguf;

/// <summary>A GGUF file (version 2 or 3, little-endian; <see href="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"/>), opened
/// for reading. The header is checked completely on opening; tensors are read and dequantised when they are asked for. Safe for any
/// number of readers at once.</summary>
public sealed class GgufFile : IDisposable
{
    internal const int DefaultAlignment = 32;
    private const int MaxDimensions = 4;

    private readonly SafeFileHandle file;
    private readonly Dictionary<string, GgufTensorInfo> byName = new(StringComparer.Ordinal);

    private GgufFile(string path, FileStream stream)
    {
        Location = path;
        file = stream.SafeFileHandle;
        Metadata = new GgufMetadata(path);
        Tensors = ReadHeader(new GgufCursor(stream, path), stream.Length);
    }

    /// <summary>The file's path, as it was given.</summary>
    public string Location { get; }

    /// <summary>The keys and values.</summary>
    public GgufMetadata Metadata { get; }

    /// <summary>The tensors, in the file's order.</summary>
    public IReadOnlyList<GgufTensorInfo> Tensors { get; }

    /// <summary>Whether a path looks like a GGUF file: it exists and begins with the format's four letters.</summary>
    /// <param name="path">The path.</param>
    public static bool IsGguf(string path)
    {
        if (!File.Exists(path))
        {
            return false;
        }

        using var stream = File.OpenRead(path);
        Span<byte> magic = stackalloc byte[4];
        return stream.ReadAtLeast(magic, magic.Length, throwOnEndOfStream: false) == magic.Length && magic.SequenceEqual("GGUF"u8);
    }

    /// <summary>Opens a file and checks its header, the tensors' places and the file's length.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The open file; dispose it.</returns>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">It is not a whole GGUF file that can be read here; the message says why.</exception>
    public static GgufFile Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1 << 16);
        try
        {
            return new GgufFile(path, stream);
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Finds a tensor that must be there.</summary>
    /// <param name="name">The tensor's name.</param>
    /// <exception cref="InvalidDataException">There is no such tensor.</exception>
    public GgufTensorInfo GetTensor(string name) =>
        byName.GetValueOrDefault(name) ?? throw new InvalidDataException($"{Location} has no tensor {Wording.Quote(name)}; is it the right model?");

    /// <summary>Whether there is a tensor.</summary>
    /// <param name="name">The name.</param>
    public bool Contains(string name) => byName.ContainsKey(name);

    /// <summary>Reads a tensor's bytes as they are stored.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="offset">The first byte, counted from the tensor's start.</param>
    /// <param name="destination">Where to put them; it is filled.</param>
    /// <exception cref="InvalidDataException">The file has become shorter since it was opened.</exception>
    public void ReadBytes(GgufTensorInfo tensor, long offset, Span<byte> destination)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        PositionedRead.RequirePart(tensor.ByteLength, offset, destination.Length, tensor.Name);

        if (PositionedRead.Fill(file, destination, tensor.FileOffset + offset) < destination.Length)
        {
            throw new InvalidDataException($"{Location} has become shorter since it was opened; {Wording.DamagedAdvice}");
        }
    }

    /// <summary>Reads whole rows as numbers.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="firstRow">The first row, all dimensions but the last counted as one.</param>
    /// <param name="values">Where to put them: whole rows.</param>
    /// <exception cref="InvalidDataException">The file has become shorter since it was opened.</exception>
    public void ReadRows(GgufTensorInfo tensor, long firstRow, Span<float> values)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var bytes = new byte[tensor.Type.Bytes(values.Length)];
        ReadBytes(tensor, firstRow * tensor.Type.Bytes(tensor.RowLength), bytes);
        BlockDecoder.Decode(tensor.Type, bytes, values);
    }

    /// <summary>Closes the file.</summary>
    public void Dispose() => file.Dispose();

    private List<GgufTensorInfo> ReadHeader(GgufCursor cursor, long fileLength)
    {
        if (!cursor.Take(4).SequenceEqual("GGUF"u8))
        {
            throw new InvalidDataException($"{Location} is not a GGUF file");
        }

        var version = cursor.UInt32();
        if (version is not (2 or 3))
        {
            throw new InvalidDataException($"{Location}: GGUF version {version} (or a big-endian file) cannot be read; versions 2 and 3 can");
        }

        var tensorCount = cursor.Count(24, "the list of tensors");
        var keyCount = cursor.Count(13, "the list of keys");
        for (var i = 0; i < keyCount; i++)
        {
            ReadKey(cursor);
        }

        var found = Enumerable.Range(0, tensorCount).Select(_ => ReadTensor(cursor)).ToList();
        var alignment = Metadata.Int("general.alignment") ?? DefaultAlignment;
        if (alignment is < 8 or > 1 << 16 || (alignment & 7) != 0)
        {
            throw Metadata.Error("general.alignment", $"{alignment} is not possible.");
        }

        var start = (cursor.Position + alignment - 1) / alignment * alignment;
        return [.. found.Select(tensor => Place(tensor with { FileOffset = tensor.FileOffset + start }, start, fileLength))];
    }

    private void ReadKey(GgufCursor cursor)
    {
        var key = cursor.Text();
        var value = GgufValues.Read(cursor, key);
        if (Metadata.Contains(key))
        {
            throw cursor.Error($"the key {Wording.Quote(key)} is there twice");
        }

        Metadata.Add(key, value);
    }

    private static GgufTensorInfo ReadTensor(GgufCursor cursor)
    {
        var name = cursor.Text();
        var rank = cursor.UInt32();
        if (rank > MaxDimensions)
        {
            throw cursor.Error($"the tensor {Wording.Quote(name)} has {rank} dimensions, more than the format's {MaxDimensions}");
        }

        var shape = new long[rank];
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            var size = cursor.UInt64();
            shape[i] = size is > 0 and < 1UL << 40 ? (long)size : throw cursor.Error($"the tensor {Wording.Quote(name)} has a dimension of {size}");
        }

        var type = (GgufType)cursor.UInt32();
        var offset = cursor.UInt64();
        return offset < 1UL << 50
            ? new GgufTensorInfo(name, type, shape, (long)offset)
            : throw cursor.Error($"the tensor {Wording.Quote(name)} lies at {offset}, past any file's end");
    }

    private GgufTensorInfo Place(GgufTensorInfo tensor, long start, long fileLength)
    {
        if (!Enum.IsDefined(tensor.Type))
        {
            throw new InvalidDataException($"{Location}: the tensor {Wording.Quote(tensor.Name)} has the type {tensor.Type.ForeignName()}, which cannot be read here; "
                + $"take a file of the model in one of {string.Join(", ", Enum.GetNames<GgufType>())}");
        }

        long? length = null;
        try
        {
            length = tensor.RowLength % tensor.Type.BlockLength() == 0 ? tensor.ByteLength : null;
        }
        catch (OverflowException)
        {
            // No file is that large; it is refused below.
        }

        if (length is null || tensor.FileOffset < start || tensor.FileOffset > fileLength - length)
        {
            throw new InvalidDataException($"{Location}: the tensor {tensor} does not lie within the file, or its rows are no whole blocks; {Wording.DamagedAdvice}");
        }

        return byName.TryAdd(tensor.Name, tensor)
            ? tensor
            : throw new InvalidDataException($"{Location}: there are two tensors {Wording.Quote(tensor.Name)}; {Wording.DamagedAdvice}");
    }
}

/// <summary>A tensor as a GGUF header describes it.</summary>
/// <param name="Name">Its name, such as <c>blk.0.attn_q.weight</c>.</param>
/// <param name="Type">The element type.</param>
/// <param name="Shape">The dimensions, outermost first (the file has them innermost first).</param>
/// <param name="FileOffset">Where its bytes begin, counted from the file's start.</param>
public sealed record GgufTensorInfo(string Name, GgufType Type, IReadOnlyList<long> Shape, long FileOffset)
{
    /// <summary>The number of values.</summary>
    public long ElementCount => Shape.Aggregate(1L, static (product, size) => checked(product * size));

    /// <summary>The length of a row, which is stored in whole blocks.</summary>
    public long RowLength => Shape.Count == 0 ? 1 : Shape[^1];

    /// <summary>The number of bytes.</summary>
    public long ByteLength => Type.Bytes(ElementCount);

    /// <summary>Name, type and shape, for messages.</summary>
    public override string ToString() => $"{Name} {Type} {Wording.Shape(Shape)}";
}
