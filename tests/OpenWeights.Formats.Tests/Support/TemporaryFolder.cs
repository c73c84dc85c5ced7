namespace OpenWeights.Formats.Tests.Support;

/// <summary>A fresh folder for one test, removed with it.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("owt formats ").FullName;

    public string this[string name] => Path.Combine(Root, name);

    /// <summary>The names of everything directly within the folder, in order.</summary>
    public string[] Names =>
        [.. Directory.EnumerateFileSystemEntries(Root).Select(entry => Path.GetFileName(entry)).Order(StringComparer.Ordinal)];

    /// <summary>Makes a folder within, with files of the given names that hold their own names.</summary>
    public string Folder(string name, params string[] files)
    {
        var folder = Directory.CreateDirectory(this[name]).FullName;
        foreach (var file in files)
        {
            var path = Path.Combine(folder, file);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, file);
        }

        return folder;
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
