namespace OpenWeights.Tune.Torch;

/// <summary>The shared libraries of this process, as Linux lists them.</summary>
internal static class LoadedLibraries
{
    /// <summary>The files, each once; none on other systems.</summary>
    internal static IReadOnlyList<string> Files() => OperatingSystem.IsLinux()
        ? [.. File.ReadLines("/proc/self/maps")
            .Select(static line => line.IndexOf('/', StringComparison.Ordinal) is >= 0 and var at ? line[at..] : "")
            .Where(static file => System.IO.Path.GetFileName(file).Contains(".so", StringComparison.Ordinal))
            .Distinct()
            .Order(StringComparer.Ordinal)]
        : [];

    /// <summary>The file whose name begins so, or null.</summary>
    internal static string? Find(string start) =>
        Files().FirstOrDefault(file => System.IO.Path.GetFileName(file).StartsWith(start, StringComparison.Ordinal));
}
