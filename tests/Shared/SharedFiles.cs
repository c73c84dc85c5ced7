using NUnit.Framework;

namespace OpenWeights.Testing;

/// <summary>
/// Finds files to compare with: what was made for this project under tests/fixtures, which every clone has, and then the larger set
/// that may lie beside the checkout (../shared, or where OWT_SHARED says), with files of others that may not be committed.
/// </summary>
internal static class SharedFiles
{
    /// <summary>The project's root: the folder that holds the solution.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The folder with the larger set, which need not be there.</summary>
    private static readonly string s_shared = Path.GetFullPath(Environment.GetEnvironmentVariable("OWT_SHARED") ?? Path.Combine(Root, "..", "shared"));

    /// <summary>The path of a file or folder of the fixtures or goldens; the test is skipped, with the reason, where it is absent.</summary>
    public static string Require(params string[] parts)
    {
        if (Find(parts) is not { } path)
        {
            Skip(parts);
            return "";
        }

        return path;
    }

    /// <summary>The path of a file or folder of the fixtures or goldens, or null.</summary>
    public static string? Find(params string[] parts) => Array.Find(Candidates(parts), Path.Exists);

    /// <summary>A file or folder of the larger set alone, for tests of what only that has; the test is skipped, with the reason, where it is absent.</summary>
    public static string RequireShared(params string[] parts)
    {
        var path = Path.Combine([s_shared, .. parts]);
        if (!Path.Exists(path))
        {
            Skip(parts);
        }

        return path;
    }

    /// <summary>All files with names of a pattern below a folder, of both places; of two with the same path below it the committed one.</summary>
    public static string[] FindFiles(string pattern, params string[] parts) => [.. FindNames(pattern, parts).Select(name => Find([.. parts, .. name.Split('/')])!)];

    /// <summary>The paths, below a folder, of all its files with names of a pattern, of both places, in order.</summary>
    public static IEnumerable<string> FindNames(string pattern, params string[] parts) =>
        Candidates(parts).Where(Directory.Exists)
            .SelectMany(root => Directory.EnumerateFiles(root, pattern, SearchOption.AllDirectories).Select(path => Path.GetRelativePath(root, path).Replace('\\', '/')))
            .Distinct(StringComparer.Ordinal)
            .Order(StringComparer.Ordinal);

    /// <summary>
    /// Those of the names that are files or folders below a folder of either place. Where none is, the first: its test then says what it lacks.
    /// </summary>
    public static IEnumerable<string> Present(IReadOnlyList<string> names, params string[] folder)
    {
        var present = names.Where(name => Find([.. folder, .. name.Split('/')]) is not null).ToList();
        return present.Count > 0 ? present : [names[0]];
    }

    // "goldens" and "fixtures" are folders of the larger set; what is committed lies under tests/fixtures/goldens and right under tests/fixtures.
    private static string[] Candidates(string[] parts) =>
    [
        Path.Combine([Root, "tests", "fixtures", .. parts[0] == "fixtures" ? parts[1..] : parts]),
        Path.Combine([s_shared, .. parts]),
    ];

    private static void Skip(string[] parts) =>
        Assert.Ignore($"needs {string.Join('/', parts)}, {(parts[0] == "fixtures" ? "a file of others" : "of the larger set")} that is not beside this checkout (../shared)");

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "OpenWeights.Tune.sln")))
            {
                return folder.FullName;
            }
        }

        throw new DirectoryNotFoundException("OpenWeights.Tune.sln is in no folder above the tests");
    }
}
