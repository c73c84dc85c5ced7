namespace OpenWeights.Formats.Files;

/// <summary>
/// A folder that appears whole or not at all: it is filled under a temporary name beside its final path (<see cref="WorkPath"/>),
/// flushed to the disk file by file, and renamed in one step by <see cref="Commit"/>. If it is disposed without a commit, it is deleted and
/// whatever was at the final path stays.
/// </summary>
/// <remarks>
/// A folder that is replaced trades places with the new one in one step where the system can (Linux, macOS); elsewhere it is moved
/// aside first, and <see cref="StaleFiles.Clean"/> puts it back should the process be killed between the two renames.
/// </remarks>
internal sealed class AtomicFolder : IDisposable
{
    private readonly bool replace;
    private bool closed;

    private AtomicFolder(string folderPath, string workPath, bool replace)
    {
        FolderPath = folderPath;
        WorkPath = workPath;
        this.replace = replace;
    }

    /// <summary>The final path, as a full path; a symbolic link's target if a link was given.</summary>
    public string FolderPath { get; }

    /// <summary>The temporary folder to write into until the commit.</summary>
    public string WorkPath { get; }

    /// <summary>Creates the temporary folder, and the folders above it.</summary>
    /// <param name="path">Where it is to be.</param>
    /// <param name="replace">Whether a folder that is there and not empty is replaced, with all that is in it, on commit; otherwise
    /// it is refused.</param>
    /// <returns>The unfinished folder; dispose it.</returns>
    /// <exception cref="IOException">Something is there that is not to be replaced, or cannot be: a file, a drive's root, a folder
    /// around the current one.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder above may not be written to.</exception>
    public static AtomicFolder Create(string path, bool replace = false)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var place = Resolve(Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)));
        CheckPlace(place, replace);
        var work = TemporaryName.Beside(place, TemporaryName.Unfinished);
        try
        {
            Directory.CreateDirectory(work);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            throw WriteFailure.Explain(place, error);
        }

        return new AtomicFolder(place, work, replace);
    }

    /// <summary>Fills and commits a folder in one call.</summary>
    /// <param name="path">Where it is to be.</param>
    /// <param name="fill">Fills the folder whose path it is given; an exception from it leaves everything as it was and passes on.</param>
    /// <param name="replace">As for <see cref="Create"/>.</param>
    /// <exception cref="IOException">As for <see cref="Create"/> and <see cref="Commit"/>.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder above may not be written to.</exception>
    public static void Write(string path, Action<string> fill, bool replace = false)
    {
        ArgumentNullException.ThrowIfNull(fill);
        using var folder = Create(path, replace);
        fill(folder.WorkPath);
        folder.Commit();
    }

    /// <summary>Flushes every file and folder of <see cref="WorkPath"/> to the disk and renames it onto <see cref="FolderPath"/>.</summary>
    /// <exception cref="IOException">A file could not be flushed, or something has come to stand in the place; nothing is replaced
    /// then.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder above may not be written to.</exception>
    /// <exception cref="InvalidOperationException">The folder was already committed or disposed.</exception>
    public void Commit()
    {
        if (closed)
        {
            throw new InvalidOperationException($"{FolderPath} was already committed or given up");
        }

        CheckPlace(FolderPath, replace);
        try
        {
            FlushTree(WorkPath);
            MoveIntoPlace();
            closed = true;
            NativeFiles.SyncFolder(Path.GetDirectoryName(FolderPath)!);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            throw WriteFailure.Explain(FolderPath, error);
        }
    }

    /// <summary>Removes the unfinished folder unless it was committed.</summary>
    public void Dispose()
    {
        if (!closed)
        {
            closed = true;
            TryDelete(WorkPath);
        }
    }

    private void MoveIntoPlace()
    {
        if (!Directory.Exists(FolderPath))
        {
            Directory.Move(WorkPath, FolderPath);
        }
        else if (IsEmpty(FolderPath))
        {
            Directory.Delete(FolderPath);
            Directory.Move(WorkPath, FolderPath);
        }
        else if (NativeFiles.TryExchange(WorkPath, FolderPath))
        {
            TryDelete(WorkPath);
        }
        else
        {
            MoveOverOld();
        }
    }

    /// <summary>Replaces with two renames, for systems and file systems that cannot exchange; between them the place is empty.</summary>
    internal void MoveOverOld()
    {
        var old = TemporaryName.Beside(FolderPath, TemporaryName.Replaced);
        Directory.Move(FolderPath, old);
        try
        {
            Directory.Move(WorkPath, FolderPath);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            Directory.Move(old, FolderPath);
            throw;
        }

        TryDelete(old);
    }

    private static string Resolve(string path) =>
        Directory.Exists(path) && new DirectoryInfo(path).ResolveLinkTarget(returnFinalTarget: true) is { } target ? target.FullName : path;

    private static void CheckPlace(string place, bool replace)
    {
        if (File.Exists(place))
        {
            throw new IOException($"cannot write the folder {place}: a file of that name is there; remove it or choose another name");
        }

        if (Path.GetDirectoryName(place) is null)
        {
            throw new IOException($"cannot write the folder {place}: it is the root of a drive; give a folder within it");
        }

        if (!Directory.Exists(place) || IsEmpty(place))
        {
            return;
        }

        if (!replace)
        {
            throw new IOException($"cannot write the folder {place}: it exists and is not empty; choose another name or remove it first");
        }

        var here = Path.GetFullPath(Environment.CurrentDirectory) + Path.DirectorySeparatorChar;
        if (here.StartsWith(place + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            throw new IOException($"cannot replace the folder {place}: the current folder lies in it; choose another name");
        }
    }

    private static bool IsEmpty(string folder) => !Directory.EnumerateFileSystemEntries(folder).Any();

    private static void FlushTree(string folder)
    {
        foreach (var file in Directory.EnumerateFiles(folder))
        {
            // Windows flushes only through a handle that may write; Unix through any.
            using var handle = File.OpenHandle(file, FileMode.Open, OperatingSystem.IsWindows() ? FileAccess.ReadWrite : FileAccess.Read);
            RandomAccess.FlushToDisk(handle);
        }

        foreach (var inner in Directory.EnumerateDirectories(folder))
        {
            FlushTree(inner);
        }

        NativeFiles.SyncFolder(folder);
    }

    private static void TryDelete(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (Exception error) when (WriteFailure.IsFromSystem(error))
        {
            // Its name says what it is, and StaleFiles finds it.
        }
    }
}
