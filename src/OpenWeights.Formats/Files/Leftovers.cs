namespace OpenWeights.Formats.Files;

/// <summary>What killed processes left behind while they wrote an <see cref="AtomicFile"/> or an <see cref="AtomicFolder"/>.</summary>
public static class Leftovers
{
    /// <summary>
    /// Removes the leftovers directly within a folder. A folder that was being replaced and whose place is empty is put back instead.
    /// Call it only while nobody else writes into the folder: what another live process has under way looks the same.
    /// </summary>
    /// <param name="folder">The folder to clean; one that does not exist has nothing to clean.</param>
    /// <returns>The full paths that were removed or put back.</returns>
    /// <exception cref="IOException">A leftover could not be removed.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static IReadOnlyList<string> Clean(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        var cleaned = new List<string>();
        if (!Directory.Exists(folder))
        {
            return cleaned;
        }

        foreach (var entry in new DirectoryInfo(folder).GetFileSystemInfos(".*"))
        {
            if (TemporaryName.TryParse(entry.Name, out var target, out var kind))
            {
                cleaned.Add(entry.FullName);
                Settle(entry, Path.Combine(Path.GetFullPath(folder), target), kind);
            }
        }

        return cleaned;
    }

    private static void Settle(FileSystemInfo entry, string target, string kind)
    {
        if (kind == TemporaryName.Replaced && !Path.Exists(target))
        {
            Directory.Move(entry.FullName, target);
        }
        else if (entry is DirectoryInfo inner)
        {
            inner.Delete(recursive: true);
        }
        else
        {
            entry.Delete();
        }
    }
}
