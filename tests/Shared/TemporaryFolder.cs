namespace OpenWeights.Testing;

/// <summary>A folder of its own for a test, with a space in its name, gone afterwards.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    internal string Root { get; } = Directory.CreateTempSubdirectory("owt tests ").FullName;

    internal string At(params string[] parts) => Path.Combine([Root, .. parts]);

    internal string Write(string name, string text)
    {
        var path = At(name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
