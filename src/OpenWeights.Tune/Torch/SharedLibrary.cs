#if !TORCH_SYSTEM
using System.Buffers.Binary;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Detects truncated shared libraries. Linux maps the segments of a library's header without checking the file's length: a library that was
/// truncated while copied ends the process with a bus error.
/// </summary>
internal static class SharedLibrary
{
    private const int HeaderSize = 64;
    private const int SegmentSize = 56;
    private const uint Load = 1;

    /// <summary>
    /// Whether all loadable segments lie within the file; true for files other than 64-bit little-endian ELF, which the loader rejects
    /// itself.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <exception cref="IOException">The file cannot be read.</exception>
    internal static bool IsWhole(string path)
    {
        using var file = File.OpenHandle(path);
        var length = RandomAccess.GetLength(file);
        Span<byte> header = stackalloc byte[HeaderSize];
        var read = RandomAccess.Read(file, header, 0);
        if (!header[..read].StartsWith("\u007fELF"u8) || (read > 5 && (header[4] != 2 || header[5] != 1)))
        {
            return true;
        }

        if (read < HeaderSize)
        {
            return false;
        }

        var (start, count) = (BinaryPrimitives.ReadUInt64LittleEndian(header[32..]), BinaryPrimitives.ReadUInt16LittleEndian(header[56..]));
        Span<byte> segment = stackalloc byte[SegmentSize];
        for (var i = 0; i < count; i++)
        {
            var at = start + ((ulong)i * SegmentSize);
            if (at > (ulong)length || RandomAccess.Read(file, segment, (long)at) < SegmentSize)
            {
                return false;
            }

            var (offset, size) = (BinaryPrimitives.ReadUInt64LittleEndian(segment[8..]), BinaryPrimitives.ReadUInt64LittleEndian(segment[32..]));
            if (BinaryPrimitives.ReadUInt32LittleEndian(segment) == Load && (offset > (ulong)length || size > (ulong)length - offset))
            {
                return false;
            }
        }

        return true;
    }
}
#endif
