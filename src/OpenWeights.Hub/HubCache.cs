namespace OpenWeights.Hub;

/// <summary>One repository in the hub's cache, laid out as huggingface_hub does, so that Python's tools and this one share a copy: blobs by
/// hash, refs from names to commits, and snapshots of links (<see href="https://huggingface.co/docs/huggingface_hub/guides/manage-cache"/>).</summary>
internal sealed class HubCache(string cacheFolder, string name, HubKind kind = HubKind.Model)
{
    private readonly string root = Path.Combine(cacheFolder, kind.Plural() + "--" + name.Replace("/", "--", StringComparison.Ordinal));

    public string Snapshot(string commit) => Path.Combine(root, "snapshots", commit);

    public string Blob(string hash) => Path.Combine(root, "blobs", hash);

    /// <summary>The commit that a branch or tag stood for when it was last downloaded; the revision itself if it is a commit in the cache.</summary>
    public string? Commit(string revision)
    {
        var reference = Path.Combine(root, "refs", revision.Replace('/', Path.DirectorySeparatorChar));
        var commit = File.Exists(reference) ? File.ReadAllText(reference).Trim() : revision;
        return commit.All(char.IsAsciiLetterOrDigit) && Directory.Exists(Snapshot(commit)) ? commit : null;
    }

    public void WriteReference(string revision, string commit)
    {
        if (revision == commit)
        {
            return;
        }

        var path = Path.Combine(root, "refs", HubName.RequireInside(revision).Replace('/', Path.DirectorySeparatorChar));
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        PutWhole(path, unfinished => File.WriteAllText(unfinished, commit));
    }

    public void MakeFolders()
    {
        _ = Directory.CreateDirectory(Path.Combine(root, "blobs"));
        _ = Directory.CreateDirectory(Path.Combine(root, "snapshots"));
    }

    /// <summary>Puts a blob under its file name into a snapshot: as a relative link, or as a copy if links are not allowed.</summary>
    public void Link(string commit, HubFile file)
    {
        var path = Path.Combine(Snapshot(commit), file.Path.Replace('/', Path.DirectorySeparatorChar));
        if (File.Exists(path))
        {
            return;
        }

        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.Delete(path);
        try
        {
            _ = File.CreateSymbolicLink(path, Path.GetRelativePath(Path.GetDirectoryName(path)!, Blob(file.Hash)));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or PlatformNotSupportedException && !File.Exists(path))
        {
            PutWhole(path, unfinished => File.Copy(Blob(file.Hash), unfinished));
        }
    }

    /// <summary>Waits until no other program downloads the same blob; huggingface_hub uses the same lock file.</summary>
    public async Task<IDisposable> Lock(string hash, CancellationToken stop)
    {
        var folder = Path.Combine(cacheFolder, ".locks", Path.GetFileName(root));
        _ = Directory.CreateDirectory(folder);
        while (true)
        {
            try
            {
                return new FileStream(Path.Combine(folder, hash + ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                await Task.Delay(200, stop).ConfigureAwait(false);
            }
        }
    }

    // Another program that reads the file sees the old content or the new, never a part of it.
    private static void PutWhole(string path, Action<string> write)
    {
        var unfinished = $"{path}.{Guid.NewGuid():N}.tmp";
        try
        {
            write(unfinished);
            File.Move(unfinished, path, overwrite: true);
        }
        finally
        {
            File.Delete(unfinished);
        }
    }
}
