namespace OpenWeights.Formats.Files;

/// <summary>Names the file that was to be written in a failure that would otherwise name only its temporary neighbour.</summary>
internal static class WriteFailure
{
    /// <summary>Whether the system refused, as against a caller's mistake.</summary>
    public static bool IsFromSystem(Exception error) => error is IOException or UnauthorizedAccessException;

    /// <summary>The same kind of exception with the path, the system's own reason and what to look at.</summary>
    public static Exception Explain(string path, Exception error)
    {
        var message = $"cannot write {path}: {error.Message.TrimEnd('.')}";
        return error switch
        {
            UnauthorizedAccessException => new UnauthorizedAccessException(
                $"{message}; check that the folder {Path.GetDirectoryName(path)} may be written to", error),
            DirectoryNotFoundException => new DirectoryNotFoundException(message, error),
            _ => new IOException(message, error) { HResult = error.HResult },
        };
    }
}
