namespace OpenWeights.Hub;

/// <summary>Brings models from the Hugging Face Hub into the hub's own cache on this machine.</summary>
public static class HubDownload
{
    /// <summary>Fetches the files of a model that are not here yet.</summary>
    /// <param name="settings">How the Hub is reached.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    /// <param name="filter">Which files.</param>
    /// <param name="listener">Is told what comes; null for nobody.</param>
    /// <param name="stop">Stops; what has come is gone on from the next time.</param>
    /// <returns>The folder with the model's files.</returns>
    /// <exception cref="InvalidDataException">There is no such revision, a file's name leads elsewhere, or a file came damaged.</exception>
    /// <exception cref="UnauthorizedAccessException">The model is gated, private or not there; the message says what to do.</exception>
    /// <exception cref="IOException">The Hub cannot be reached, has no time, or the disk refused.</exception>
    public static async Task<string> Fetch(HubSettings settings, string name, string revision, HubFilter filter, IHubListener? listener, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(filter);
        ArgumentException.ThrowIfNullOrEmpty(revision);
        if (!HubName.IsName(name))
        {
            throw new InvalidDataException($"{HubName.Quote(name)} is not a model's name on the Hub; ORG/NAME is wanted");
        }

        if (settings.Offline)
        {
            return Find(settings, name, revision) ?? throw new IOException($"{name} ({revision}) is not in {settings.CacheFolder}, and HF_HUB_OFFLINE is set; download it while the network may be used");
        }

        using var client = new HubClient(settings);
        var found = await client.Find(name, revision, stop).ConfigureAwait(false);
        var files = found.Files.Where(file => filter.Takes(file.Path)).ToList();
        if (files.Count == 0)
        {
            throw new InvalidDataException($"{name}: none of its {found.Files.Count} files is wanted; change --include and --exclude");
        }

        var cache = new HubCache(settings.CacheFolder, name);
        cache.MakeFolders();
        listener?.Found(found, files, files.Where(file => !File.Exists(cache.Blob(file.Hash))).Sum(static file => file.Size));
        var counter = new Counter(listener, files.Sum(static file => file.Size));
        async ValueTask FetchFile(HubFile file, CancellationToken inner)
        {
            await new BlobDownload(client, settings, found, file, cache, counter.Add).Run(inner).ConfigureAwait(false);
            cache.Link(found.Commit, file);
        }

        // Small files side by side; a large one is itself fetched in several parts at a time.
        var small = files.Where(file => file.Size <= settings.PartBytes);
        await Parallel.ForEachAsync(small, new ParallelOptions { MaxDegreeOfParallelism = settings.Connections, CancellationToken = stop }, FetchFile).ConfigureAwait(false);
        foreach (var file in files.Where(file => file.Size > settings.PartBytes))
        {
            await FetchFile(file, stop).ConfigureAwait(false);
        }

        cache.WriteReference(revision, found.Commit);
        return cache.Snapshot(found.Commit);
    }

    /// <summary>The folder of a model that is in the cache; null where it is not.</summary>
    /// <param name="settings">Where the cache is.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    public static string? Find(HubSettings settings, string name, string revision)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var cache = new HubCache(settings.CacheFolder, name);
        return cache.Commit(revision) is { } commit ? cache.Snapshot(commit) : null;
    }

    /// <summary>The names of the models that are in the cache, whole or not.</summary>
    /// <param name="settings">Where the cache is.</param>
    public static IReadOnlyList<string> Names(HubSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        const string prefix = "models--";
        return !Directory.Exists(settings.CacheFolder) ? []
            : [.. Directory.EnumerateDirectories(settings.CacheFolder, prefix + "*").Select(static path => Path.GetFileName(path)[prefix.Length..].Replace("--", "/", StringComparison.Ordinal))];
    }

    private sealed class Counter(IHubListener? listener, long total)
    {
        private readonly Lock turn = new();
        private long done;

        public void Add(long bytes)
        {
            lock (turn)
            {
                done += bytes;
                listener?.Progressed(done, total);
            }
        }
    }
}

/// <summary>Is told of a download.</summary>
public interface IHubListener
{
    /// <summary>Before anything is fetched.</summary>
    /// <param name="revision">The model.</param>
    /// <param name="files">The files that are wanted.</param>
    /// <param name="missingBytes">The bytes of those that are not here yet.</param>
    void Found(HubRevision revision, IReadOnlyList<HubFile> files, long missingBytes);

    /// <summary>While it is fetched; one call at a time.</summary>
    /// <param name="done">The bytes that are here.</param>
    /// <param name="total">The bytes of all files that are wanted.</param>
    void Progressed(long done, long total);
}
