namespace OpenWeights.Formats.Files;

/// <summary>Asks for room before gigabytes are written, so that a full disk is reported at the start.</summary>
internal static class FreeSpace
{
    /// <summary>Refuses when the disk of a file to be written has less room than it needs; says nothing where the system cannot
    /// tell.</summary>
    /// <exception cref="IOException">There is too little room.</exception>
    public static void Require(string fullPath, long bytes)
    {
        if (bytes > 0 && Available(fullPath) is { } available && available < bytes)
        {
            throw new IOException(
                $"cannot write {fullPath}: it needs {Wording.Bytes(bytes)} and the disk has {Wording.Bytes(available)} free; "
                + "make room or choose another disk");
        }
    }

    private static long? Available(string fullPath)
    {
        try
        {
            var drive = new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(fullPath)! : Path.GetDirectoryName(fullPath)!);

            // Some file systems in user space report sizes of zero throughout: they do not know.
            return drive.TotalSize > 0 ? drive.AvailableFreeSpace : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // A network path has no drive letter; the write itself will tell.
            return null;
        }
    }
}
