namespace OpenWeights.Formats.Files;

/// <summary>Symbolic links, by which a Hub's cache and people put large files where they are wanted: the size and the time of a link itself
/// do not describe its target, and a link may point to a folder that contains it.</summary>
internal static class FileLinks
{
    /// <summary>The file that a path refers to after following all links, for its size and times.</summary>
    /// <param name="path">The path.</param>
    /// <exception cref="IOException">The links lead in a circle.</exception>
    public static FileInfo File(string path)
    {
        var file = new FileInfo(path);
        return file.ResolveLinkTarget(returnFinalTarget: true) is { } target ? new FileInfo(target.FullName) : file;
    }

    /// <summary>Where a link leads that leads to nothing; null for everything else.</summary>
    /// <param name="path">The path.</param>
    public static string? BrokenTarget(string? path)
    {
        if (string.IsNullOrEmpty(path) || new FileInfo(path).LinkTarget is not { } next)
        {
            return null;
        }

        try
        {
            return new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true) is { } target && !Path.Exists(target.FullName) ? target.FullName : null;
        }
        catch (IOException)
        {
            // The links lead in a circle.
            return next;
        }
    }

    /// <summary>The files of a folder and its subfolders, following links to folders. A link to a folder that contains it is skipped.</summary>
    /// <param name="folder">The folder.</param>
    public static IEnumerable<string> FilesWithin(string folder) => FilesWithin(new DirectoryInfo(folder), []);

    private static IEnumerable<string> FilesWithin(DirectoryInfo folder, IReadOnlyList<string> outer)
    {
        var real = Real(folder, outer);
        if (outer.Contains(real))
        {
            yield break;
        }

        foreach (var file in folder.EnumerateFiles())
        {
            yield return Path.Combine(folder.ToString(), file.Name);
        }

        foreach (var inner in folder.EnumerateDirectories())
        {
            foreach (var file in FilesWithin(new DirectoryInfo(Path.Combine(folder.ToString(), inner.Name)), [.. outer, real]))
            {
                yield return file;
            }
        }
    }

    // A folder's own name under the real place of the one that it lies in, or where its link leads.
    private static string Real(DirectoryInfo folder, IReadOnlyList<string> outer) =>
        folder.ResolveLinkTarget(returnFinalTarget: true) is { } target ? Path.TrimEndingDirectorySeparator(target.FullName)
        : outer.Count > 0 ? Path.Combine(outer[^1], folder.Name)
        : Path.TrimEndingDirectorySeparator(folder.FullName);
}
