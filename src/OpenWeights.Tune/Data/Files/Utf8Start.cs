namespace OpenWeights.Tune.Data.Files;

/// <summary>Byte order marks.</summary>
internal static class Utf8Start
{
    /// <summary>The length of a UTF-8 byte order mark that a text starts with, or 0.</summary>
    /// <exception cref="InvalidDataException">The mark is that of UTF-16.</exception>
    internal static int Skip(ReadOnlySpan<byte> start, string path) =>
        start is [0xff, 0xfe, ..] or [0xfe, 0xff, ..] ? throw new InvalidDataException($"{path}:1: the file is UTF-16, not UTF-8; save it as UTF-8.")
        : start is [0xef, 0xbb, 0xbf, ..] ? 3
        : 0;
}
