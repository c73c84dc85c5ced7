using System.Globalization;

namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// Releases memory left over from startup: library pages that are read only once. OpenWeights.LibTorch does the same in C++
/// (start_pages.cpp).
/// </summary>
internal static class StartPages
{
    private const int PageSize = 4096;

    // Bits of an entry in pagemap: the page is in memory, in swap, or file-backed.
    private const ulong Present = 1UL << 63;
    private const ulong Swapped = 1UL << 62;
    private const ulong OfFile = 1UL << 61;

    /// <summary>Releases the resident, read-only pages of the libraries in a folder; pages used later are mapped again.</summary>
    /// <param name="folder">The folder.</param>
    internal static void Release(string folder)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        try
        {
            using var pages = new FileStream("/proc/self/pagemap", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            foreach (var line in File.ReadAllLines("/proc/self/maps"))
            {
                // start-end access offset device inode path
                var parts = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
                if (parts.Length == 6 && parts[1][0] == 'r' && parts[1][1] == '-' && parts[5].StartsWith(folder, StringComparison.Ordinal))
                {
                    var range = parts[0].Split('-');
                    var (start, end) = (long.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), long.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
                    foreach (var (first, count) in WholeRuns(pages, start, end))
                    {
                        _ = LinuxPages.Release(first, count);
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // If the system hides these files, the pages are kept.
        }
    }

    // Runs of file-backed pages. Pages that were written, as by relocations before memory becomes read-only, are private to the process
    // and would be lost.
    private static IEnumerable<(long Start, long Size)> WholeRuns(FileStream pages, long start, long end)
    {
        var entries = new byte[(end - start) / PageSize * sizeof(ulong)];
        pages.Position = start / PageSize * sizeof(ulong);
        pages.ReadExactly(entries);
        var from = start;
        for (var at = start; at <= end; at += PageSize)
        {
            var entry = at < end ? BitConverter.ToUInt64(entries, (int)((at - start) / PageSize * sizeof(ulong))) : Present;
            if ((entry & (Present | Swapped)) != 0 && (entry & (Present | OfFile)) != (Present | OfFile))
            {
                if (at > from)
                {
                    yield return (from, at - from);
                }

                from = at + PageSize;
            }
        }
    }
}
