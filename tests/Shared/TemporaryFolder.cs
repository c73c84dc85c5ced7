namespace OpenWeights.Testing;

/// <summary>A folder of its own for a test, with a space in its name, gone afterwards.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("owt tests ").FullName;

    /// <summary>The names of everything directly within the folder, in order.</summary>
    public string[] Names => [.. Directory.EnumerateFileSystemEntries(Root).Select(static entry => Path.GetFileName(entry)).Order(StringComparer.Ordinal)];

    public string this[string name] => Path.Combine(Root, name);

    public string At(params string[] parts) => Path.Combine([Root, .. parts]);

    /// <summary>Writes a file within, making its folder where it is missing.</summary>
    public string Write(string name, string text)
    {
        var path = At(name);
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    /// <summary>Makes a folder within, with files of the given names that hold their own names.</summary>
    public string Folder(string name, params string[] files)
    {
        _ = Directory.CreateDirectory(this[name]);
        foreach (var file in files)
        {
            _ = Write(Path.Combine(name, file), file);
        }

        return this[name];
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
