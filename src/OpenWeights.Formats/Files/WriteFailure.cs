namespace OpenWeights.Formats.Files;

/// <summary>Names the file that was to be written in a failure that would otherwise name only its temporary neighbour.</summary>
internal static class WriteFailure
{
    /// <summary>Whether the operating system refused the write, rather than the caller having made a mistake.</summary>
    public static bool IsFromSystem(Exception error) => error is IOException or UnauthorizedAccessException || IsTooLarge(error);

    /// <summary>An exception of the same kind whose message has the path, the system's reason and what to check.</summary>
    public static Exception Explain(string path, Exception error)
    {
        if (IsTooLarge(error))
        {
            return new IOException($"cannot write {path}: the file would be larger than the file system or a limit allows; choose another disk, or raise the limit (ulimit -f)", error);
        }

        var message = $"cannot write {path}: {error.Message.TrimEnd('.')}";
        return error switch
        {
            UnauthorizedAccessException => new UnauthorizedAccessException(
                $"{message}; check that the folder {Path.GetDirectoryName(path)} may be written to", error),
            DirectoryNotFoundException => new DirectoryNotFoundException(message, error),
            _ => new IOException(message, error) { HResult = error.HResult },
        };
    }

    // .NET has no IOException for EFBIG, the answer of a FAT disk at 4 GiB and of a limit on files.
    private static bool IsTooLarge(Exception error) => error is ArgumentOutOfRangeException { ParamName: "value" };
}
