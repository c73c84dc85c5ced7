using System.Text;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Files;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Data.Files;

/// <summary>Resolves files, folders and glob patterns.</summary>
internal static class DataPaths
{
    private static readonly string[] s_endings = [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md"];

    /// <summary>The files of a path, sorted by name so that runs are reproducible.</summary>
    /// <param name="path">A file; a folder, whose data files are used, including subfolders; or a pattern with *, ? and ** (any folders).</param>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">The folder or the pattern has no data file, or a link leads nowhere.</exception>
    public static IReadOnlyList<string> Expand(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (FileLinks.BrokenTarget(path) is { } nowhere)
        {
            throw new InvalidDataException($"{path}: this link leads to {nowhere}, which is not there.");
        }

        if (File.Exists(path))
        {
            return [path];
        }

        if (Directory.Exists(path))
        {
            var files = Sorted(path, f => s_endings.Contains(Path.GetExtension(Decompression.NameWithin(f)), StringComparer.OrdinalIgnoreCase));
            return files.Count > 0 ? files : throw new InvalidDataException($"{path}: this folder contains no data file ({string.Join(", ", s_endings)}, also with .gz or .zst).");
        }

        if (!UserPath.HasWildcard(path))
        {
            throw new FileNotFoundException($"{path}: no such file.", path);
        }

        var fixedPart = path;
        while (UserPath.HasWildcard(fixedPart))
        {
            fixedPart = Path.GetDirectoryName(fixedPart) is { Length: > 0 } above ? above : ".";
        }

        var pattern = Pattern(Path.GetFullPath(path));
        var found = Directory.Exists(fixedPart) ? Sorted(Path.GetFullPath(fixedPart), pattern.IsMatch) : [];
        return found.Count > 0 ? found : throw new InvalidDataException($"{path}: no file matches this pattern.");
    }

    private static List<string> Sorted(string folder, Func<string, bool> wanted) =>
    [
        .. FileLinks.FilesWithin(folder)
            .Where(f => !Path.GetFileName(f).StartsWith('.') && wanted(f))
            .Order(StringComparer.Ordinal),
    ];

    private static Regex Pattern(string path)
    {
        var text = new StringBuilder(@"\A");
        for (var i = 0; i < path.Length; i++)
        {
            if (path.AsSpan(i).StartsWith("**/"))
            {
                _ = text.Append("(?:.*/)?");
                i += 2;
            }
            else
            {
                _ = path[i] switch
                {
                    '*' when path.AsSpan(i).StartsWith("**") => text.Append(".*"),
                    '*' => text.Append(@"[^/\\]*"),
                    '?' => text.Append(@"[^/\\]"),
                    var c => text.Append(Regex.Escape(c.ToString())),
                };
                i += path.AsSpan(i).StartsWith("**") ? 1 : 0;
            }
        }

        return new Regex(text.Append(@"\z").ToString(), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
    }
}
