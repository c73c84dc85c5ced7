using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Hub;

/// <summary>
/// Uploads files to a model's repository as huggingface_hub does: the Hub says which files are large (preupload), those go to its storage (Git LFS batch,
/// in one piece or in parts), and one commit adds all files.
/// </summary>
public sealed class HubUpload : IDisposable
{
    private const int SampleBytes = 512;
    private const int FilesAtOnce = 256;
    private const string LfsType = "application/vnd.git-lfs+json";

    private readonly HubSettings settings;
    private readonly HubClient client;
    private readonly string name;
    private readonly string revision;

    /// <summary>Prepares an upload; nothing is sent.</summary>
    /// <param name="settings">How the Hub is reached, with a token.</param>
    /// <param name="name">ORG/NAME.</param>
    /// <param name="revision">The branch.</param>
    /// <exception cref="InvalidDataException">The name is none of a model.</exception>
    /// <exception cref="HubRefusedException">There is no token.</exception>
    public HubUpload(HubSettings settings, string name, string revision)
    {
        ArgumentNullException.ThrowIfNull(settings);
        if (!HubName.IsName(name))
        {
            throw new InvalidDataException($"{HubName.Quote(name)} is not a model's name on the Hub; write ORG/NAME");
        }

        if (settings.Token is null)
        {
            throw new HubRefusedException("uploading needs a token that may write: set HF_TOKEN to one (https://huggingface.co/settings/tokens)");
        }

        (this.settings, this.name, this.revision) = (settings, name, revision);
        client = new HubClient(settings);
    }

    /// <summary>Creates the repository unless it exists, and uploads files in one commit.</summary>
    /// <param name="files">The files.</param>
    /// <param name="isPrivate">Whether a new repository is private.</param>
    /// <param name="message">The commit's message.</param>
    /// <param name="progress">Called with the bytes of large files that were sent; null for none.</param>
    /// <param name="stop">Stops the upload. Large files that have arrived are not sent again by the next one.</param>
    /// <returns>The commit's address.</returns>
    /// <exception cref="HubRefusedException">The token may not write there.</exception>
    /// <exception cref="InvalidDataException">The Hub refuses a file.</exception>
    /// <exception cref="IOException">The Hub cannot be reached, or a file cannot be read.</exception>
    public async Task<string> Push(IReadOnlyList<HubUploadFile> files, bool isPrivate, string message, Action<long>? progress, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(files);
        await Create(isPrivate, stop).ConfigureAwait(false);
        var large = new List<(HubUploadFile File, string Hash)>();
        var small = new List<HubUploadFile>();
        foreach (var chunk in files.Chunk(FilesAtOnce))
        {
            var modes = await Modes(chunk, stop).ConfigureAwait(false);
            foreach (var file in chunk)
            {
                switch (modes.GetValueOrDefault(file.Path))
                {
                    case "lfs":
                        large.Add((file, await Hash(file, stop).ConfigureAwait(false)));
                        break;
                    case "regular":
                        small.Add(file);
                        break;
                    default:
                        // The repository's .gitignore leaves it out.
                        break;
                }
            }
        }

        foreach (var chunk in large.DistinctBy(static f => f.Hash).Chunk(FilesAtOnce))
        {
            await SendLarge(chunk, progress, stop).ConfigureAwait(false);
        }

        return await Commit(small, large, message, stop).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public void Dispose() => client.Dispose();

    private async Task Create(bool isPrivate, CancellationToken stop)
    {
        var parts = name.Split('/');
        var body = new JsonObject { ["name"] = parts[1], ["organization"] = parts[0], ["type"] = "model", ["private"] = isPrivate };
        _ = await Json("/api/repos/create", body, stop, isFine: static status => status == HttpStatusCode.Conflict).ConfigureAwait(false);
    }

    private async Task<Dictionary<string, string>> Modes(IReadOnlyList<HubUploadFile> files, CancellationToken stop)
    {
        var list = new JsonArray();
        foreach (var file in files)
        {
            list.Add(new JsonObject { ["path"] = file.Path, ["size"] = file.Length, ["sample"] = Convert.ToBase64String(await Sample(file, stop).ConfigureAwait(false)) });
        }

        var answer = await Json($"/api/models/{name}/preupload/{Uri.EscapeDataString(revision)}", new JsonObject { ["files"] = list }, stop).ConfigureAwait(false);
        return Told(() => answer["files"]!.AsArray().Where(static f => f!["shouldIgnore"]?.GetValue<bool>() != true).ToDictionary(static f => f!["path"]!.ToString(), static f => f!["uploadMode"]!.ToString()));
    }

    private async Task SendLarge(IReadOnlyList<(HubUploadFile File, string Hash)> files, Action<long>? progress, CancellationToken stop)
    {
        var body = new JsonObject
        {
            ["operation"] = "upload",
            ["transfers"] = new JsonArray("basic", "multipart"),
            ["hash_algo"] = "sha256",
            ["ref"] = new JsonObject { ["name"] = revision },
            ["objects"] = new JsonArray([.. files.Select(static f => (JsonNode)new JsonObject { ["oid"] = f.Hash, ["size"] = f.File.Length })]),
        };
        var answer = await Json($"/{name}.git/info/lfs/objects/batch", body, stop, LfsType).ConfigureAwait(false);
        var objects = Told(() => answer["objects"]!.AsArray().ToDictionary(static o => o!["oid"]!.ToString(), static o => o!.AsObject()));
        foreach (var (file, hash) in files)
        {
            var one = objects.GetValueOrDefault(hash) ?? throw new InvalidDataException($"{name}: the Hub did not say where {file.Path} goes");
            if (one["error"]?["message"]?.ToString() is { } problem)
            {
                throw new InvalidDataException($"{name}: the Hub refuses {file.Path}: {problem}");
            }

            // What is there already has no actions.
            if (one["actions"]?["upload"] is JsonObject action)
            {
                await SendLarge(file, hash, action, stop).ConfigureAwait(false);
                if (one["actions"]?["verify"]?["href"]?.ToString() is { } verify)
                {
                    _ = await Json(verify, new JsonObject { ["oid"] = hash, ["size"] = file.Length }, stop).ConfigureAwait(false);
                }
            }

            progress?.Invoke(file.Length);
        }
    }

    // In one piece, or in the parts for which the header has numbered addresses.
    private async Task SendLarge(HubUploadFile file, string hash, JsonObject action, CancellationToken stop)
    {
        var (address, header) = (action["href"]!.ToString(), action["header"] as JsonObject ?? []);
        if (header["chunk_size"] is null)
        {
            _ = await Put(file, address, 0, file.Length, stop).ConfigureAwait(false);
            return;
        }

        var size = long.Parse(header["chunk_size"]!.ToString(), CultureInfo.InvariantCulture);
        var parts = header.Where(static h => h.Key.All(char.IsAsciiDigit)).Select(static h => (Number: int.Parse(h.Key, CultureInfo.InvariantCulture), Address: h.Value!.ToString())).OrderBy(static p => p.Number).ToList();
        if (size < 1 || parts.Count != (file.Length + size - 1) / size)
        {
            throw new InvalidDataException($"{name}: the Hub gives {parts.Count} parts of {size} bytes for {file.Path}, which has {file.Length}");
        }

        var tags = new JsonObject[parts.Count];
        await Parallel.ForAsync(0, parts.Count, new ParallelOptions { MaxDegreeOfParallelism = settings.Connections, CancellationToken = stop }, async (i, inner) =>
        {
            var tag = await Put(file, parts[i].Address, i * size, Math.Min(size, file.Length - (i * size)), inner).ConfigureAwait(false);
            tags[i] = new JsonObject { ["partNumber"] = parts[i].Number, ["etag"] = tag };
        }).ConfigureAwait(false);
        _ = await Json(address, new JsonObject { ["oid"] = hash, ["parts"] = new JsonArray([.. tags]) }, stop, LfsType).ConfigureAwait(false);
    }

    // The addresses are signed, so they get no token.
    private Task<string?> Put(HubUploadFile file, string address, long start, long length, CancellationToken stop) => client.Try($"{name}: {file.Path}", async () =>
    {
        var source = file.Open();
        await using var closing = source.ConfigureAwait(false);
        using var content = new StreamContent(new PartStream(source, start, length));
        content.Headers.ContentLength = length;
        using var request = new HttpRequestMessage(HttpMethod.Put, new Uri(settings.Endpoint, address)) { Content = content };
        using var response = await client.Exchange(name, request, withToken: false, stop).ConfigureAwait(false);
        return response.Headers.ETag?.Tag ?? (response.Headers.TryGetValues("ETag", out var tags) ? tags.First() : null);
    }, stop);

    private async Task<string> Commit(IReadOnlyList<HubUploadFile> small, IReadOnlyList<(HubUploadFile File, string Hash)> large, string message, CancellationToken stop)
    {
        var lines = new StringBuilder();
        void Add(string key, JsonObject value) => lines.Append(new JsonObject { ["key"] = key, ["value"] = value }.ToJsonString()).Append('\n');
        Add("header", new JsonObject { ["summary"] = message, ["description"] = "" });
        foreach (var file in small)
        {
            using var content = new MemoryStream();
            var source = file.Open();
            await using (source.ConfigureAwait(false))
            {
                await source.CopyToAsync(content, stop).ConfigureAwait(false);
            }

            Add("file", new JsonObject { ["content"] = Convert.ToBase64String(content.ToArray()), ["path"] = file.Path, ["encoding"] = "base64" });
        }

        foreach (var (file, hash) in large)
        {
            Add("lfsFile", new JsonObject { ["path"] = file.Path, ["algo"] = "sha256", ["oid"] = hash, ["size"] = file.Length });
        }

        var answer = await Text($"/api/models/{name}/commit/{Uri.EscapeDataString(revision)}", lines.ToString(), "application/x-ndjson", stop, null).ConfigureAwait(false);
        return Told(() => answer["commitUrl"]!.ToString());
    }

    private Task<JsonObject> Json(string address, JsonObject body, CancellationToken stop, string type = "application/json", Func<HttpStatusCode, bool>? isFine = null) => Text(address, body.ToJsonString(), type, stop, isFine);

    private Task<JsonObject> Text(string address, string body, string type, CancellationToken stop, Func<HttpStatusCode, bool>? isFine = null) => client.Try(name, async () =>
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(settings.Endpoint, address)) { Content = new StringContent(body, Encoding.UTF8, new System.Net.Http.Headers.MediaTypeHeaderValue(type)) };
        if (type == LfsType)
        {
            request.Headers.Accept.ParseAdd(LfsType);
        }

        using var response = await client.Exchange(name, request, withToken: true, stop, isFine).ConfigureAwait(false);
        var text = await response.Content.ReadAsStringAsync(stop).ConfigureAwait(false);
        return Told(() => text.Length > 0 && response.IsSuccessStatusCode && text.TrimStart().StartsWith('{') ? JsonNode.Parse(text)!.AsObject() : []);
    }, stop);

    private T Told<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception error) when (error is NullReferenceException or InvalidOperationException or FormatException or JsonException or ArgumentException)
        {
            throw new InvalidDataException($"{settings.Endpoint} does not answer as the Hub does; check HF_ENDPOINT", error);
        }
    }

    private static async Task<byte[]> Sample(HubUploadFile file, CancellationToken stop)
    {
        var stream = file.Open();
        await using var closing = stream.ConfigureAwait(false);
        var sample = new byte[SampleBytes];
        return sample[..await stream.ReadAtLeastAsync(sample, SampleBytes, throwOnEndOfStream: false, stop).ConfigureAwait(false)];
    }

    private static async Task<string> Hash(HubUploadFile file, CancellationToken stop)
    {
        var stream = file.Open();
        await using var closing = stream.ConfigureAwait(false);
        return Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, stop).ConfigureAwait(false));
    }
}

/// <summary>A file to upload.</summary>
/// <param name="Path">Its path in the repository, with slashes.</param>
/// <param name="Length">Its size in bytes.</param>
/// <param name="Open">Opens it from its start.</param>
public sealed record HubUploadFile(string Path, long Length, Func<Stream> Open)
{
    /// <summary>A file of the disk.</summary>
    /// <param name="path">Its path in the repository.</param>
    /// <param name="file">The file.</param>
    public static HubUploadFile Of(string path, string file) => new(path, new FileInfo(file).ResolveLinkTarget(returnFinalTarget: true) is FileInfo target ? target.Length : new FileInfo(file).Length, () => File.OpenRead(file));

    /// <summary>A text.</summary>
    /// <param name="path">Its path in the repository.</param>
    /// <param name="text">The text.</param>
    public static HubUploadFile OfText(string path, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        return new HubUploadFile(path, bytes.Length, () => new MemoryStream(bytes));
    }
}

/// <summary>A part of a stream that can be read from any place.</summary>
internal sealed class PartStream : Stream
{
    private readonly Stream source;
    private long left;

    public PartStream(Stream source, long start, long length)
    {
        (this.source, left) = (source, length);
        _ = source.Seek(start, SeekOrigin.Begin);
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count)
    {
        var read = source.Read(buffer, offset, (int)Math.Min(count, left));
        left -= read;
        return read;
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var read = await source.ReadAsync(buffer[..(int)Math.Min(buffer.Length, left)], cancellationToken).ConfigureAwait(false);
        left -= read;
        return read;
    }

    public override void Flush() => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
