using ICSharpCode.SharpZipLib.GZip;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Opens files, uncompressing what gzip or Zstandard compressed; the file's first bytes tell.</summary>
internal static class Decompression
{
    private static readonly string[] s_endings = [".gz", ".gzip", ".zst", ".zstd"];

    /// <summary>The file's bytes, uncompressed.</summary>
    /// <exception cref="InvalidDataException">It is compressed with Zstandard and the system has no library for that.</exception>
    internal static Stream Open(string path)
    {
        var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1 << 18, FileOptions.SequentialScan);
        try
        {
            Span<byte> start = stackalloc byte[4];
            start = start[..file.ReadAtLeast(start, 4, throwOnEndOfStream: false)];
            file.Position = 0;
            return start switch
            {
                [0x1f, 0x8b, ..] => new WholeStream(new GZipInputStream(file), path),
                [0x28, 0xb5, 0x2f, 0xfd] => new WholeStream(new ZstandardStream(file, path), path),
                _ => file,
            };
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The name that a file has once it is uncompressed.</summary>
    internal static string NameWithin(string path) =>
        s_endings.FirstOrDefault(e => path.EndsWith(e, StringComparison.OrdinalIgnoreCase)) is { } ending ? path[..^ending.Length] : path;
}
