using NUnit.Framework;

namespace OpenWeights.Testing;

/// <summary>Finds the project's root and the folder of fixtures and goldens that may lie beside it.</summary>
internal static class SharedFiles
{
    /// <summary>The project's root: the folder that holds the solution.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The path of a file or folder of the shared fixtures; the test is skipped, with the reason, where it is absent.</summary>
    public static string Require(params string[] parts)
    {
        var path = Path.Combine([Root, "..", "shared", .. parts]);
        if (!Path.Exists(path))
        {
            Assert.Ignore($"needs the shared fixture {string.Join('/', parts)}, which is not beside this checkout");
        }

        return Path.GetFullPath(path);
    }

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
