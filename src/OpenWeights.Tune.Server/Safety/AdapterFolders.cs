using System.Buffers;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>Finds adapters below one folder by their names, and nothing else: no other path, no way up, and no link that leads out.</summary>
/// <param name="root">The folder.</param>
internal sealed class AdapterFolders(string root)
{
    private static readonly SearchValues<char> s_forbidden = SearchValues.Create("\\:\0*?\"<>|");
    private static readonly EnumerationOptions s_all = new() { RecurseSubdirectories = true, AttributesToSkip = 0, MaxRecursionDepth = 8 };

    private readonly string _root = Path.GetFullPath(root);

    /// <summary>The folder with a name below the root.</summary>
    /// <param name="name">The folder's name, or names with / between them.</param>
    /// <exception cref="RequestException">The name is none, or there is no such folder.</exception>
    internal string Find(string name)
    {
        var parts = name.Split('/');
        if (parts.Any(static p => p is "" or "." or ".." || p.AsSpan().ContainsAny(s_forbidden)))
        {
            throw Refused(name, "it must be the name of a folder, or names with / between them");
        }

        var path = _root;
        foreach (var part in parts)
        {
            // Each step is looked up as an entry of its folder, so that no spelling of a path means something else.
            path = Directory.Exists(path) && new DirectoryInfo(path).EnumerateDirectories().FirstOrDefault(d => d.Name == part) is { } next
                ? next.LinkTarget is null ? next.FullName : throw Refused(name, "it is a link")
                : throw Refused(name, "there is no such folder below that of the adapters");
        }

        return Directory.EnumerateFileSystemEntries(path, "*", s_all).Select(static e => new FileInfo(e)).Any(static e => e.LinkTarget is not null)
            ? throw Refused(name, "it has links in it")
            : path;
    }

    private static RequestException Refused(string name, string reason) => new($"Invalid 'lora_path' '{(name.Length > 100 ? name[..100] + "..." : name)}': {reason}.", "lora_path");
}
