using ICSharpCode.SharpZipLib.GZip;
using ZstdSharp;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Opens files, and decompresses gzip and Zstandard, detected by the first bytes.</summary>
internal static class Decompression
{
    private static readonly string[] s_endings = [".gz", ".gzip", ".zst", ".zstd"];

    /// <summary>The file's bytes, decompressed.</summary>
    internal static Stream Open(string path)
    {
        var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, 1 << 18, FileOptions.SequentialScan);
        try
        {
            return Kind(file) switch
            {
                "gzip" => new WholeStream(new GZipInputStream(file), path),
                "zstd" => new WholeStream(new DecompressionStream(file, checkEndOfStream: true, leaveOpen: false), path),
                _ => file,
            };
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The compression of a file: gzip, zstd or none.</summary>
    internal static string Kind(string path)
    {
        using var file = File.OpenRead(path);
        return Kind(file);
    }

    /// <summary>The file's name without the extension of its compression.</summary>
    internal static string NameWithin(string path) =>
        s_endings.FirstOrDefault(e => path.EndsWith(e, StringComparison.OrdinalIgnoreCase)) is { } ending ? path[..^ending.Length] : path;

    private static string Kind(FileStream file)
    {
        Span<byte> start = stackalloc byte[4];
        start = start[..file.ReadAtLeast(start, 4, throwOnEndOfStream: false)];
        file.Position = 0;
        return start switch
        {
            [0x1f, 0x8b, ..] => "gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "zstd",
            _ => "none",
        };
    }
}
