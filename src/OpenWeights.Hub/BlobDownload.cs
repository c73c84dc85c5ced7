using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Hub;

/// <summary>Downloads one file into the cache: in parts, several at a time, starting from the parts that an earlier try has stored. The
/// file is accepted only if its size and hash are right.</summary>
internal sealed class BlobDownload(HubClient client, HubSettings settings, HubRevision revision, HubFile file, HubCache cache, Action<long> progress)
{
    private readonly string unfinished = cache.Blob(file.Hash) + ".owt-part";
    private readonly string finishedParts = cache.Blob(file.Hash) + ".owt-parts";
    private readonly Lock listLock = new();

    public async Task Run(CancellationToken stop)
    {
        using var turn = await cache.Lock(file.Hash, stop).ConfigureAwait(false);
        if (File.Exists(cache.Blob(file.Hash)))
        {
            progress(file.Size);
            return;
        }

        // What came damaged once may come whole the second time.
        for (var attempt = 1; ; attempt++)
        {
            await FetchParts(stop).ConfigureAwait(false);
            var (size, hash) = await Hash(stop).ConfigureAwait(false);
            if (size == file.Size && hash == file.Hash)
            {
                break;
            }

            File.Delete(unfinished);
            File.Delete(finishedParts);
            if (attempt == 2)
            {
                throw new InvalidDataException($"{revision.Name}: {file.Path} arrived damaged twice: {size} bytes with the hash {hash}, expected {file.Size} bytes with {file.Hash}; try again later");
            }

            progress(-size);
        }

        File.Move(unfinished, cache.Blob(file.Hash), overwrite: true);
        File.Delete(finishedParts);
    }

    private async Task FetchParts(CancellationToken stop)
    {
        var done = DoneParts();
        using var handle = File.OpenHandle(unfinished, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read);
        var parts = new List<(int Number, long Start, long Length)>();
        for (var (number, start) = (0, 0L); start < file.Size; start += settings.PartBytes, number++)
        {
            var length = Math.Min(settings.PartBytes, file.Size - start);
            if (done.Contains(number))
            {
                progress(length);
            }
            else
            {
                parts.Add((number, start, length));
            }
        }

        await Parallel.ForEachAsync(parts, new ParallelOptions { MaxDegreeOfParallelism = settings.Connections, CancellationToken = stop }, async (part, inner) =>
        {
            _ = await client.Try($"{revision.Name}: {file.Path}", async () => await FetchPart(handle, part.Start, part.Length, inner).ConfigureAwait(false), inner).ConfigureAwait(false);
            lock (listLock)
            {
                File.AppendAllText(finishedParts, $"{part.Number}\n");
            }
        }).ConfigureAwait(false);
        RandomAccess.FlushToDisk(handle);
    }

    /// <summary>The parts that an earlier try has brought whole, if it cut the file into the same parts.</summary>
    private HashSet<int> DoneParts()
    {
        var head = string.Create(CultureInfo.InvariantCulture, $"{file.Size} bytes in parts of {settings.PartBytes}");
        var lines = File.Exists(finishedParts) && File.Exists(unfinished) ? File.ReadAllLines(finishedParts) : [];
        if (lines.Length > 0 && lines[0] == head)
        {
            return [.. lines.Skip(1).Select(static line => int.TryParse(line, out var number) ? number : -1)];
        }

        File.Delete(unfinished);
        File.WriteAllText(finishedParts, head + "\n");
        return [];
    }

    private async Task<bool> FetchPart(SafeFileHandle handle, long start, long length, CancellationToken stop)
    {
        var whole = start == 0 && length == file.Size;
        using var response = await client.Send(revision.Name, revision.AddressOf(file, settings.Endpoint), whole ? null : new RangeHeaderValue(start, start + length - 1), stop).ConfigureAwait(false);

        // A server without ranges sends the whole file: what comes before the part is passed over.
        var skip = whole || response.StatusCode != HttpStatusCode.PartialContent ? start : RequireRange(response, start, length);
        var stream = await response.Content.ReadAsStreamAsync(stop).ConfigureAwait(false);
        await using var closing = stream.ConfigureAwait(false);
        var buffer = new byte[1 << 17];
        var written = 0L;
        try
        {
            while (written < length)
            {
                var count = await client.ReadSome(stream, buffer, stop).ConfigureAwait(false);
                if (count == 0)
                {
                    throw new HttpIOException(HttpRequestError.ResponseEnded, $"{file.Path} ended after {written} of {length} bytes");
                }

                var from = (int)Math.Min(skip, count);
                skip -= from;
                var take = (int)Math.Min(count - from, length - written);
                await RandomAccess.WriteAsync(handle, buffer.AsMemory(from, take), start + written, stop).ConfigureAwait(false);
                written += take;
                progress(take);
            }

            return true;
        }
        catch
        {
            progress(-written);
            throw;
        }
    }

    /// <summary>Nothing is to be passed over, if the server sent the range that was asked for.</summary>
    private long RequireRange(HttpResponseMessage response, long start, long length)
    {
        var range = response.Content.Headers.ContentRange;
        return range is { From: { } from, To: { } to } && from == start && to == start + length - 1
            ? 0
            : throw new HttpIOException(HttpRequestError.InvalidResponse, $"{file.Path}: asked for bytes {start} to {start + length - 1}, the server sent {range?.ToString() ?? "no range"}");
    }

    private async Task<(long Size, string Hash)> Hash(CancellationToken stop)
    {
        var stream = new FileStream(unfinished, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20, useAsync: true);
        await using var closing = stream.ConfigureAwait(false);
        if (file.IsLarge)
        {
            return (stream.Length, Convert.ToHexStringLower(await SHA256.HashDataAsync(stream, stop).ConfigureAwait(false)));
        }

        // git's name for a blob: SHA-1 of a head and the content. It guards against damage here, not against forgery.
#pragma warning disable CA5350
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
#pragma warning restore CA5350
        hash.AppendData(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"blob {stream.Length}\0")));
        var buffer = new byte[1 << 17];
        for (int count; (count = await stream.ReadAsync(buffer, stop).ConfigureAwait(false)) > 0;)
        {
            hash.AppendData(buffer, 0, count);
        }

        return (stream.Length, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }
}
