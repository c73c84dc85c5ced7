namespace OpenWeights.Hub;

/// <summary>Downloads models from the Hugging Face Hub into the cache that huggingface_hub also uses.</summary>
public static class HubDownload
{
    /// <summary>Downloads the files of a model that are not in the cache yet.</summary>
    /// <param name="settings">How the Hub is reached.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    /// <param name="filter">Which files to download.</param>
    /// <param name="listener">Receives the progress; null for none.</param>
    /// <param name="stop">Stops the download. The next call goes on from the parts that have arrived.</param>
    /// <returns>The folder with the model's files.</returns>
    /// <exception cref="InvalidDataException">There is no such revision, a file's name would lead out of the folder, or a file arrived damaged.</exception>
    /// <exception cref="HubRefusedException">The model is gated, private or not there; the message says what to do.</exception>
    /// <exception cref="IOException">The Hub cannot be reached or is too busy, or the disk cannot be written.</exception>
    public static Task<string> Fetch(HubSettings settings, string name, string revision, HubFilter filter, IHubListener? listener, CancellationToken stop) =>
        Fetch(settings, HubKind.Model, name, revision, filter, listener, stop);

    /// <summary>The files of a repository.</summary>
    /// <param name="settings">How the Hub is reached.</param>
    /// <param name="kind">What the repository holds.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    /// <param name="stop">Stops the request.</param>
    /// <exception cref="InvalidDataException">There is no such revision.</exception>
    /// <exception cref="HubRefusedException">The repository is gated, private or not there; the message says what to do.</exception>
    /// <exception cref="IOException">The Hub cannot be reached or is too busy.</exception>
    public static async Task<HubRevision> List(HubSettings settings, HubKind kind, string name, string revision, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(settings);
        using var client = new HubClient(settings);
        return await client.Find(name, revision, kind, stop).ConfigureAwait(false);
    }

    /// <summary>Downloads the files of a repository that are not in the cache yet.</summary>
    /// <param name="settings">How the Hub is reached.</param>
    /// <param name="kind">What the repository holds.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    /// <param name="filter">Which files to download.</param>
    /// <param name="listener">Receives the progress; null for none.</param>
    /// <param name="stop">Stops the download. The next call goes on from the parts that have arrived.</param>
    /// <returns>The folder with the files.</returns>
    /// <exception cref="InvalidDataException">There is no such revision, a file's name would lead out of the folder, or a file arrived damaged.</exception>
    /// <exception cref="HubRefusedException">The repository is gated, private or not there; the message says what to do.</exception>
    /// <exception cref="IOException">The Hub cannot be reached or is too busy, or the disk cannot be written.</exception>
    public static async Task<string> Fetch(HubSettings settings, HubKind kind, string name, string revision, HubFilter filter, IHubListener? listener, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(filter);
        ArgumentException.ThrowIfNullOrEmpty(revision);
        if (!HubName.IsName(name))
        {
            throw new InvalidDataException($"{HubName.Quote(name)} is not a {kind.Words()}'s name on the Hub; write ORG/NAME");
        }

        if (settings.Offline)
        {
            return Find(settings, name, revision, kind) ?? throw new IOException($"{name} ({revision}) is not in {settings.CacheFolder}, and HF_HUB_OFFLINE is set; unset it to download the {kind.Words()}");
        }

        using var client = new HubClient(settings);
        var found = await client.Find(name, revision, kind, stop).ConfigureAwait(false);
        var files = found.Files.Where(file => filter.Takes(file.Path)).ToList();
        if (files.Count == 0)
        {
            throw new InvalidDataException($"{name}: none of its {found.Files.Count} files matches; change --include and --exclude");
        }

        var cache = new HubCache(settings.CacheFolder, name, kind);
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

    /// <summary>
    /// Writes the safetensors files of a repository into a folder with their headers alone, which name all tensors: each file is as long as the Hub's,
    /// and holds zeros in place of the tensors' values. For looking at a model, not for loading it. Files in folders of the repository are left out.
    /// </summary>
    /// <param name="settings">How the Hub is reached.</param>
    /// <param name="revision">The repository, as <see cref="List"/> gives it.</param>
    /// <param name="folder">An existing folder, without files of these names.</param>
    /// <param name="stop">Stops the download.</param>
    /// <exception cref="InvalidDataException">A file is no safetensors file.</exception>
    /// <exception cref="HubRefusedException">The repository is gated, private or not there; the message says what to do.</exception>
    /// <exception cref="IOException">The Hub cannot be reached or is too busy, or the disk cannot be written.</exception>
    public static async Task FetchHeaders(HubSettings settings, HubRevision revision, string folder, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(revision);
        ArgumentException.ThrowIfNullOrEmpty(folder);
        using var client = new HubClient(settings);
        var headers = new HeaderDownload(client, settings, revision);
        var files = revision.Files.Where(static file => HubFilter.Model.Takes(file.Path) && file.Path.EndsWith(".safetensors", StringComparison.Ordinal));
        await Parallel.ForEachAsync(files, new ParallelOptions { MaxDegreeOfParallelism = settings.Connections, CancellationToken = stop },
            async (file, inner) => await headers.Write(file, Path.Combine(folder, file.Path), inner).ConfigureAwait(false)).ConfigureAwait(false);
    }

    /// <summary>The folder of a repository in the cache; null if it is not there.</summary>
    /// <param name="settings">Where the cache is.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">A branch, tag or commit.</param>
    /// <param name="kind">What the repository holds.</param>
    public static string? Find(HubSettings settings, string name, string revision, HubKind kind = HubKind.Model)
    {
        ArgumentNullException.ThrowIfNull(settings);
        var cache = new HubCache(settings.CacheFolder, name, kind);
        return cache.Commit(revision) is { } commit ? cache.Snapshot(commit) : null;
    }

    /// <summary>The names of the models in the cache, complete or not.</summary>
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

/// <summary>Receives the progress of a download.</summary>
public interface IHubListener
{
    /// <summary>Called once, before anything is downloaded.</summary>
    /// <param name="revision">The model.</param>
    /// <param name="files">The files to download.</param>
    /// <param name="missingBytes">Number of their bytes that are not cached yet.</param>
    void Found(HubRevision revision, IReadOnlyList<HubFile> files, long missingBytes);

    /// <summary>Called while files arrive; never by two threads at once.</summary>
    /// <param name="done">The bytes that have arrived or were in the cache.</param>
    /// <param name="total">The bytes of all files to download.</param>
    void Progressed(long done, long total);
}
