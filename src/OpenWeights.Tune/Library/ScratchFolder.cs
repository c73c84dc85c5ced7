namespace OpenWeights.Tune;

/// <summary>A folder for what is needed for a moment; it is deleted at the end.</summary>
internal sealed class ScratchFolder : IDisposable
{
    private readonly string _path = Directory.CreateTempSubdirectory("owt-").FullName;

    /// <summary>A path in it.</summary>
    /// <param name="name">Name of a file or folder.</param>
    internal string Within(string name) => Path.Combine(_path, name);

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Directory.Delete(_path, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The system's own cleaning of temporary files takes what is still open.
        }
    }
}
