using System.Buffers.Binary;
using System.Text;

namespace OpenWeights.Formats.Gguf;

/// <summary>Goes through a GGUF header from its start, and never past the file's end.</summary>
internal sealed class GgufCursor(Stream stream, string path)
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
    private byte[] buffer = new byte[256];

    public long Position => stream.Position;

    private long Left => stream.Length - stream.Position;

    public InvalidDataException Error(string problem) => new($"{path}: {problem}; {Wording.DamagedAdvice}");

    public ReadOnlySpan<byte> Take(long count)
    {
        if (count > Left)
        {
            throw Error("the file ends within its header");
        }

        if (buffer.Length < count)
        {
            buffer = new byte[count];
        }

        var span = buffer.AsSpan(0, (int)count);
        stream.ReadExactly(span);
        return span;
    }

    /// <summary>Reads bytes straight into their place.</summary>
    public void Fill(Span<byte> destination)
    {
        if (destination.Length > Left)
        {
            throw Error("the file ends within its header");
        }

        stream.ReadExactly(destination);
    }

    public uint UInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(4));

    public ulong UInt64() => BinaryPrimitives.ReadUInt64LittleEndian(Take(8));

    /// <summary>A count of items of at least a number of bytes each.</summary>
    public int Count(int minBytes, string what)
    {
        var count = UInt64();
        return count <= (ulong)(Left / minBytes) && count <= (ulong)Array.MaxLength
            ? (int)count
            : throw Error($"{what} is said to have {count} items, more than the file can hold");
    }

    public string Text()
    {
        var length = Count(1, "a text");
        try
        {
            return StrictUtf8.GetString(Take(length));
        }
        catch (DecoderFallbackException)
        {
            throw Error($"the text before byte {stream.Position} is not UTF-8");
        }
    }
}
