using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Torch;

/// <summary>Determines the version of a libtorch: from the library itself, or from files of the installation.</summary>
internal static partial class LibTorchVersion
{
    // A plain C function of every libtorch since 2.9: the highest bytes of its result are major, minor and patch.
    private const string Function = "aoti_torch_abi_version";

    /// <summary>The version of a loaded library, or null if unknown.</summary>
    /// <param name="library">Handle of libtorch_cpu.</param>
    /// <param name="folder">The folder of its file.</param>
    internal static unsafe Version? Read(nint library, string? folder)
    {
        if (NativeLibrary.TryGetExport(library, Function, out var function))
        {
            var word = ((delegate* unmanaged<ulong>)function)();
            return new Version((int)(word >> 56), (int)(word >> 48) & 0xff, (int)(word >> 40) & 0xff);
        }

        return folder is null ? null : ReadFiles(folder);
    }

    /// <summary>The version according to the files of an unpacked libtorch, a PyTorch, or a distribution's headers.</summary>
    /// <param name="folder">The folder of libtorch_cpu.</param>
    internal static Version? ReadFiles(string folder)
    {
        string[] files =
        [
            Path.Combine(folder, "..", "build-version"),
            Path.Combine(folder, "..", "version.py"),
            Path.Combine(folder, "..", "include", "torch", "csrc", "api", "include", "torch", "version.h"),
            Path.Combine(folder, "..", "..", "include", "torch", "csrc", "api", "include", "torch", "version.h"),
        ];
        foreach (var file in files.Where(File.Exists))
        {
            if (Pattern().Match(File.ReadAllText(file)) is { Success: true } match)
            {
                return Parse(match);
            }
        }

        return null;
    }

    /// <summary>The version in libtorch's build description, or null.</summary>
    /// <param name="description">Lines, one of which contains TORCH_VERSION=.</param>
    internal static Version? ReadDescription(IEnumerable<string> description) =>
        description.Select(static line => Built().Match(line)).FirstOrDefault(static match => match.Success) is { } found ? Parse(found) : null;

    private static Version Parse(Match match) =>
        new(Number(match.Groups[1]), Number(match.Groups[2]), Number(match.Groups[3]));

    private static int Number(Group digits) => int.Parse(digits.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);

    // build-version contains the version alone; in version.py and version.h it is quoted.
    [GeneratedRegex(@"(?:^|TORCH_VERSION ?\\?\s*""|__version__ = ['""])(\d{1,4})\.(\d{1,4})\.(\d{1,4})")]
    private static partial Regex Pattern();

    [GeneratedRegex(@"\bTORCH_VERSION=(\d{1,4})\.(\d{1,4})\.(\d{1,4})")]
    private static partial Regex Built();
}

/// <summary>Lists the shared libraries of this process on Linux.</summary>
internal static class LoadedLibraries
{
    /// <summary>The distinct files; empty on other systems.</summary>
    internal static IReadOnlyList<string> Files() => OperatingSystem.IsLinux()
        ? [.. File.ReadLines("/proc/self/maps")
            .Select(static line => line.IndexOf('/', StringComparison.Ordinal) is >= 0 and var at ? line[at..] : "")
            .Where(static file => System.IO.Path.GetFileName(file).Contains(".so", StringComparison.Ordinal))
            .Distinct()
            .Order(StringComparer.Ordinal)]
        : [];

    /// <summary>The file whose name starts with a text, or null.</summary>
    internal static string? Find(string start) =>
        Files().FirstOrDefault(file => System.IO.Path.GetFileName(file).StartsWith(start, StringComparison.Ordinal));
}
