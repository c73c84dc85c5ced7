using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// Reads and checks a file's header completely: afterwards all tensors are known to be contiguous in the file, each as
/// long as dtype and shape say, with nothing before, between or after them. The rules are those of the reference implementation
/// (<see href="https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs"/>); beyond it, a name that occurs
/// twice is refused.
/// </summary>
internal sealed class SafetensorsHeader
{
    /// <summary>The longest header that the reference reads or writes, in bytes.</summary>
    public const long LongestHeader = 100_000_000;

    /// <summary>The bytes of the header's length, before the header.</summary>
    public const int PrefixLength = sizeof(ulong);

    private const int ForeignStart = 64;

    private readonly string path;

    private SafetensorsHeader(string path, SafeFileHandle file)
    {
        this.path = path;
        FileLength = RandomAccess.GetLength(file);
        var length = ReadLength(file);
        var json = new byte[length];
        ReadFully(file, json, PrefixLength);
        var dataStart = PrefixLength + length;
        List<HeaderTensor> tensors;
        try
        {
            (tensors, Metadata) = HeaderJson.Parse(json);
        }
        catch (FormatException error)
        {
            throw new InvalidDataException($"{path}: {error.Message}; {Wording.DamagedAdvice}", error);
        }

        CheckLayout(tensors, FileLength - dataStart);
        Tensors = [.. tensors.Select(tensor => new TensorEntry(
            tensor.Name, tensor.DType, Array.AsReadOnly(tensor.Shape), tensor.End - tensor.Start, path, dataStart + tensor.Start))];
    }

    /// <summary>The tensors in the order of their bytes.</summary>
    public IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>The file's length in bytes, header and all.</summary>
    private long FileLength { get; }

    /// <summary>The entries of <c>__metadata__</c> in the file's order; null if it is absent.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; }

    /// <summary>Reads and checks the header of an open file.</summary>
    /// <exception cref="InvalidDataException">The file is not a whole, valid safetensors file.</exception>
    public static SafetensorsHeader Read(string path, SafeFileHandle file) => new(path, file);

    private long ReadLength(SafeFileHandle file)
    {
        Span<byte> start = stackalloc byte[ForeignStart];
        start = start[..(int)Math.Min(ForeignStart, FileLength)];
        ReadFully(file, start, 0);
        if (FileLength < PrefixLength)
        {
            throw Bad(FileLength == 0
                ? "the file is empty"
                : $"the file ends after {Wording.Bytes(FileLength)}, within the header's length");
        }

        var length = BinaryPrimitives.ReadUInt64LittleEndian(start);
        if (length > LongestHeader && ForeignFile.Describe(start) is { } foreign)
        {
            throw new InvalidDataException($"{path} is not a safetensors file: {foreign}");
        }

        return length switch
        {
            0 => throw Bad("its header has no bytes"),
            > LongestHeader => throw Bad($"its first 8 bytes say that the header has {length} bytes, more than the format's "
                + $"{LongestHeader}; it may not be a safetensors file"),
            _ when (long)length > FileLength - PrefixLength =>
                throw Bad($"the header has {length} bytes, but the file ends after {Wording.Bytes(FileLength)}"),
            _ => (long)length,
        };
    }

    private void ReadFully(SafeFileHandle file, Span<byte> destination, long offset)
    {
        if (PositionedRead.Fill(file, destination, offset) < destination.Length)
        {
            throw Bad("the file became shorter while it was read");
        }
    }

    /// <summary>Sorts the tensors by their place and holds places, sizes and the file's length against each other.</summary>
    private void CheckLayout(List<HeaderTensor> tensors, long dataLength)
    {
        // A stable order for tensors without bytes, which share their place with a neighbour.
        var ordered = tensors.OrderBy(tensor => tensor.Start).ThenBy(tensor => tensor.End).ToArray();
        tensors.Clear();
        tensors.AddRange(ordered);
        HeaderTensor? previous = null;
        foreach (var tensor in tensors)
        {
            CheckSize(tensor);
            CheckNeighbour(previous, tensor);
            previous = tensor;
        }

        var end = previous?.End ?? 0;
        if (end > dataLength)
        {
            var cut = tensors.First(tensor => tensor.End > dataLength);
            throw Bad($"the file is cut off within the tensor {Wording.Quote(cut.Name)}: it should have {Wording.Bytes(end - dataLength)} more");
        }

        if (end < dataLength)
        {
            var last = previous is null ? "its header, which has no tensor" : $"its last tensor {Wording.Quote(previous.Name)}";
            throw Bad($"the file has {Wording.Bytes(dataLength - end)} too many after {last}");
        }
    }

    private void CheckSize(HeaderTensor tensor)
    {
        if (tensor.End < tensor.Start)
        {
            throw Bad($"the tensor {Wording.Quote(tensor.Name)} ends at {tensor.End}, before its start at {tensor.Start}");
        }

        var bytes = TensorSize.Bytes(tensor.DType, tensor.Shape, out var problem);
        if (problem is not null)
        {
            throw Bad($"the tensor {Wording.Quote(tensor.Name)} is impossible: {problem}");
        }

        if (bytes != tensor.End - tensor.Start)
        {
            throw Bad($"the tensor {Wording.Quote(tensor.Name)} of dtype {tensor.DType} and shape {Wording.Shape(tensor.Shape)} needs "
                + $"{bytes} bytes, but its data_offsets span {tensor.End - tensor.Start}");
        }
    }

    private void CheckNeighbour(HeaderTensor? previous, HeaderTensor tensor)
    {
        var expected = previous?.End ?? 0;
        if (tensor.Start < expected)
        {
            throw Bad($"the tensors {Wording.Quote(previous!.Name)} and {Wording.Quote(tensor.Name)} overlap by "
                + Wording.Bytes(expected - tensor.Start));
        }

        if (tensor.Start > expected)
        {
            throw Bad($"{Wording.Bytes(tensor.Start - expected)} before the tensor {Wording.Quote(tensor.Name)} belong to no tensor");
        }
    }

    private InvalidDataException Bad(string problem) => new($"{path}: {problem}; {Wording.DamagedAdvice}");
}

/// <summary>Recognises the files that most often stand where a safetensors file should, so that the refusal can say what to do.</summary>
internal static class ForeignFile
{
    /// <summary>What a file with these first bytes is, and what to do about it; null if unknown.</summary>
    public static string? Describe(ReadOnlySpan<byte> start) =>
        start.StartsWith("version https://git-lfs"u8)
            ? "it is a Git LFS pointer and not the weights themselves: fetch them with \"git lfs pull\""
        : start.StartsWith("PK\x03\x04"u8) || start.StartsWith((ReadOnlySpan<byte>)[0x80, 0x02])
            ? "it is a PyTorch file (pickle): convert it to safetensors or download the safetensors version"
        : start.StartsWith("GGUF"u8) ? "it is a GGUF file"
        : start.TrimStart(" \t\r\n"u8).StartsWith("<"u8)
            ? "it is a web page and not the weights: download it again (does the site ask to log in or to accept a licence first?)"
        : start.TrimStart(" \t\r\n"u8).StartsWith("{"u8) ? "it is a text and not the weights: download it again"
        : null;
}
