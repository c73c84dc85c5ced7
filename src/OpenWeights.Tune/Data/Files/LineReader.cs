using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Splits a UTF-8 stream into lines, using memory for only the longest one.</summary>
internal static class LineReader
{
    // A row this long exceeds any context; without a limit, a file without line breaks would fill the memory.
    internal const int LongestRow = 256 << 20;

    /// <summary>The lines without their line breaks (LF, CR LF), with their numbers from 1. White-space lines are skipped.</summary>
    /// <exception cref="InvalidDataException">A line is too long, or the file is UTF-16.</exception>
    internal static IEnumerable<(long Number, byte[] Bytes)> Read(Stream stream, string path)
    {
        var buffer = new byte[1 << 18];
        var (start, end, number) = (0, 0, 0L);
        for (var atEnd = false; !atEnd;)
        {
            if (end == buffer.Length)
            {
                (start, end) = MakeRoom(ref buffer, start, end, $"{path}:{number + 1}");
            }

            var count = stream.Read(buffer, end, buffer.Length - end);
            atEnd = count == 0;
            var search = end;
            end += count;
            if (number == 0 && start == 0)
            {
                start = Utf8Start.Skip(buffer.AsSpan(0, end), path);
                search = Math.Max(search, start);
            }

            for (int found; (found = Array.IndexOf(buffer, (byte)'\n', search, end - search)) >= 0; search = start = found + 1)
            {
                number++;
                if (Trimmed(buffer, start, found) is { } line)
                {
                    yield return (number, line);
                }
            }
        }

        if (end > start && Trimmed(buffer, start, end) is { } last)
        {
            yield return (number + 1, last);
        }
    }

    private static byte[]? Trimmed(byte[] buffer, int start, int end)
    {
        var line = buffer.AsSpan(start, end - start);
        return line.IndexOfAnyExcept(" \t\r"u8) < 0 ? null : line[^1] == '\r' ? line[..^1].ToArray() : line.ToArray();
    }

    private static (int Start, int End) MakeRoom(ref byte[] buffer, int start, int end, string place)
    {
        if (start > 0)
        {
            Buffer.BlockCopy(buffer, start, buffer, 0, end - start);
            return (0, end - start);
        }

        if (buffer.Length >= LongestRow)
        {
            throw new InvalidDataException($"{place}: this line is longer than {LongestRow >> 20} MiB; check that the file has one row per line.");
        }

        Array.Resize(ref buffer, buffer.Length * 2);
        return (start, end);
    }
}

/// <summary>A row of plain text.</summary>
/// <param name="utf8">Its bytes.</param>
internal sealed class TextContent(byte[] utf8) : IRawContent
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public int Size => utf8.Length;

    public JsonObject Parse()
    {
        try
        {
            return new JsonObject { ["text"] = s_strict.GetString(utf8) };
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"this text is not valid UTF-8 (byte {e.Index + 1}); save the file as UTF-8.", e);
        }
    }
}

/// <summary>Byte order marks.</summary>
internal static class Utf8Start
{
    /// <summary>Length of a UTF-8 byte order mark at the start of a text, or 0.</summary>
    /// <exception cref="InvalidDataException">The text starts with a UTF-16 byte order mark.</exception>
    internal static int Skip(ReadOnlySpan<byte> start, string path) =>
        start is [0xff, 0xfe, ..] or [0xfe, 0xff, ..] ? throw new InvalidDataException($"{path}:1: the file is UTF-16, not UTF-8; save it as UTF-8.")
        : start is [0xef, 0xbb, 0xbf, ..] ? 3
        : 0;
}
