namespace OpenWeights.Tune.Cli.Output;

/// <summary>Paths as a person would write them: relative within the current folder, absolute elsewhere.</summary>
internal static class ShownPath
{
    internal static string Of(string path)
    {
        if (!Path.IsPathRooted(path))
        {
            return path;
        }

        var relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative == ".." || relative.StartsWith(".." + Path.DirectorySeparatorChar, StringComparison.Ordinal) ? path : relative;
    }
}
