using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace OpenWeights.Formats.Files;

/// <summary>Removes files that a killed process left while writing an <see cref="AtomicFile"/> or an <see cref="AtomicFolder"/>.</summary>
internal static class StaleFiles
{
    /// <summary>
    /// Removes the leftovers directly within a folder. A folder that was being replaced and whose place is empty is put back instead.
    /// Call it only while nobody else writes into the folder: what another process is still writing looks the same.
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

/// <summary>
/// Names of temporary files: <c>.NAME.0123456789abcdef.tmp</c> is being written, <c>.NAME.0123456789abcdef.old</c> is a folder that was
/// moved aside while its replacement is moved in.
/// </summary>
internal static partial class TemporaryName
{
    public const string Unfinished = "tmp";
    public const string Replaced = "old";

    /// <summary>A fresh name in the same folder as <paramref name="fullPath"/>, so that the rename stays within one file system.</summary>
    public static string Beside(string fullPath, string kind)
    {
        var unique = RandomNumberGenerator.GetHexString(16, lowercase: true);
        return Path.Combine(Path.GetDirectoryName(fullPath)!, $".{Path.GetFileName(fullPath)}.{unique}.{kind}");
    }

    /// <summary>Splits such a name into its parts.</summary>
    public static bool TryParse(string name, [NotNullWhen(true)] out string? target, [NotNullWhen(true)] out string? kind)
    {
        var match = Pattern().Match(name);
        (target, kind) = match.Success ? (match.Groups[1].Value, match.Groups[2].Value) : (null, null);
        return match.Success;
    }

    [GeneratedRegex(@"^\.(.+)\.[0-9a-f]{16}\.(tmp|old)\z", RegexOptions.CultureInvariant | RegexOptions.Singleline)]
    private static partial Regex Pattern();
}
