using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Hub;

/// <summary>Sends requests to the Hub. The access token goes to the Hub alone, not along a redirect to another server. A failure that may pass is tried again.</summary>
internal sealed class HubClient : IDisposable
{
    private const int MaxRedirects = 10;
    private const int MaxWaitSeconds = 300;

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    private readonly HttpClient http = new(new SocketsHttpHandler { AllowAutoRedirect = false, ConnectTimeout = TimeSpan.FromSeconds(20) }) { Timeout = Timeout.InfiniteTimeSpan };
    private readonly HubSettings settings;
    private volatile bool answered;

    public HubClient(HubSettings settings)
    {
        this.settings = settings;
        http.DefaultRequestHeaders.UserAgent.ParseAdd("openweights-tune/0.1");
    }

    public async Task<HubRevision> Find(string name, string revision, HubKind kind, CancellationToken stop)
    {
        var address = new Uri(settings.Endpoint, $"/api/{kind.Plural()}/{name}/revision/{Uri.EscapeDataString(revision)}?blobs=true");
        return await Try(name, async () =>
        {
            using var response = await Send(name, address, null, stop).ConfigureAwait(false);
            return Read(name, await ReadAll(response, stop).ConfigureAwait(false), address) with { Kind = kind };
        }, stop).ConfigureAwait(false);
    }

    /// <summary>Does some work, and repeats it after a failure that may pass.</summary>
    public async Task<T> Try<T>(string what, Func<Task<T>> work, CancellationToken stop)
    {
        for (var attempt = 1; ; attempt++)
        {
            TimeSpan? asked = null;
            try
            {
                return await work().ConfigureAwait(false);
            }
            catch (HubBusyException busy) when (attempt < settings.Attempts)
            {
                asked = busy.RetryAfter;
            }
            catch (Exception error) when (error is HttpRequestException or HttpIOException or IOException or TimeoutException && error is not HubBusyException && attempt < settings.Attempts && (answered || !IsOffline(error)))
            {
                // A cut or a stall: the next try may go through.
            }
            catch (Exception error) when (error is HttpRequestException or TimeoutException)
            {
                throw new IOException($"{what}: {settings.Endpoint} cannot be reached ({error.Message.TrimEnd('.')}); {(answered ? "" : "is this machine offline? ")}Check the connection and HTTPS_PROXY, or set HF_ENDPOINT", error);
            }

            var wait = settings.FirstWait * Math.Pow(2, attempt - 1);
            await Task.Delay(asked is { } least && least > wait ? least : wait, stop).ConfigureAwait(false);
        }
    }

    /// <summary>Requests an address, or a range of its bytes, and returns once the answer's headers have arrived.</summary>
    public async Task<HttpResponseMessage> Send(string name, Uri address, RangeHeaderValue? range, CancellationToken stop)
    {
        for (var redirects = 0; redirects < MaxRedirects; redirects++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, address);
            request.Headers.Range = range;
            if (settings.Token is { } token && address.Host == settings.Endpoint.Host && address.Port == settings.Endpoint.Port)
            {
                request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
            }

            using var stall = CancellationTokenSource.CreateLinkedTokenSource(stop);
            stall.CancelAfter(settings.StallTimeout);
            HttpResponseMessage response;
            try
            {
                response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stall.Token).ConfigureAwait(false);
                answered = true;
            }
            catch (OperationCanceledException) when (!stop.IsCancellationRequested)
            {
                throw new TimeoutException($"{address} did not answer within {settings.StallTimeout.TotalSeconds:F0} s");
            }

            if ((int)response.StatusCode is 301 or 302 or 303 or 307 or 308 && response.Headers.Location is { } location)
            {
                address = new Uri(address, location);
                response.Dispose();
                continue;
            }

            if (!response.IsSuccessStatusCode)
            {
                using (response)
                {
                    throw Refusal(name, response);
                }
            }

            return response;
        }

        throw new InvalidDataException($"{name}: the server redirects without end; check HF_ENDPOINT");
    }

    /// <summary>Sends a request that writes, and returns its answer.</summary>
    /// <param name="name">The repository.</param>
    /// <param name="request">The request.</param>
    /// <param name="withToken">Whether the token goes along if the address is the Hub's.</param>
    /// <param name="stop">Stops it.</param>
    /// <param name="isFine">Which statuses besides success are no failure; null for none.</param>
    public async Task<HttpResponseMessage> Exchange(string name, HttpRequestMessage request, bool withToken, CancellationToken stop, Func<HttpStatusCode, bool>? isFine = null)
    {
        var address = request.RequestUri!;
        if (withToken && settings.Token is { } token && address.Host == settings.Endpoint.Host && address.Port == settings.Endpoint.Port)
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
        }

        var response = await http.SendAsync(request, stop).ConfigureAwait(false);
        answered = true;
        if (response.IsSuccessStatusCode || isFine?.Invoke(response.StatusCode) == true)
        {
            return response;
        }

        using (response)
        {
            var text = await response.Content.ReadAsStringAsync(stop).ConfigureAwait(false);
            throw (int)response.StatusCode is 401 or 403 ? new HubRefusedException($"the token that is set (HF_TOKEN) may not write to {name} on {settings.Endpoint.Host}; use one that may")
                : (int)response.StatusCode is 400 or 413 or 422 ? new InvalidDataException($"{name}: the Hub refuses: {Said(text) ?? response.ReasonPhrase}")
                : Refusal(name, response);
        }
    }

    // The Hub's own words, such as that a card's licence is none.
    private static string? Said(string text)
    {
        try
        {
            return (JsonNode.Parse(text) as JsonObject)?["error"]?.ToString();
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>Reads some bytes; fails if none arrive for too long.</summary>
    public async Task<int> ReadSome(Stream stream, Memory<byte> buffer, CancellationToken stop)
    {
        using var stall = CancellationTokenSource.CreateLinkedTokenSource(stop);
        stall.CancelAfter(settings.StallTimeout);
        try
        {
            return await stream.ReadAsync(buffer, stall.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new TimeoutException($"nothing came for {settings.StallTimeout.TotalSeconds:F0} s");
        }
    }

    public void Dispose() => http.Dispose();

    // Nothing listens there, or the name is unknown: before the server has answered once, waiting would not help.
    private static bool IsOffline(Exception error) =>
        error is TimeoutException or HttpRequestException { HttpRequestError: HttpRequestError.NameResolutionError or HttpRequestError.ConnectionError or HttpRequestError.ProxyTunnelError };

    private async Task<byte[]> ReadAll(HttpResponseMessage response, CancellationToken stop)
    {
        using var all = new MemoryStream();
        var stream = await response.Content.ReadAsStreamAsync(stop).ConfigureAwait(false);
        await using (stream.ConfigureAwait(false))
        {
            var buffer = new byte[1 << 16];
            for (int count; (count = await ReadSome(stream, buffer, stop).ConfigureAwait(false)) > 0;)
            {
                all.Write(buffer, 0, count);
            }
        }

        return all.ToArray();
    }

    private Exception Refusal(string name, HttpResponseMessage response)
    {
        var code = response.Headers.TryGetValues("X-Error-Code", out var codes) ? codes.First() : "";
        var page = $"{settings.Endpoint.ToString().TrimEnd('/')}/{name}";
        var login = settings.Token is null
            ? "set HF_TOKEN to an access token (https://huggingface.co/settings/tokens)"
            : "the token that is set (HF_TOKEN) gives no access to it";
        return (int)response.StatusCode switch
        {
            401 or 403 when code == "GatedRepo" => new HubRefusedException($"{name} is gated: ask for access on {page} and accept its licence; {login}"),
            404 when code == "RevisionNotFound" => new InvalidDataException($"{name} has no such revision; {page}/commits lists those it has"),
            404 when code == "EntryNotFound" => new InvalidDataException($"{name}: a file was removed from the Hub after it was listed; try again"),
            401 or 403 or 404 => new HubRefusedException($"there is no {(name.StartsWith("datasets/", StringComparison.Ordinal) ? $"data set {name["datasets/".Length..]}" : $"model {name}")} on {settings.Endpoint.Host}, or it is private; check the name, or {login}"),
            429 or 408 or >= 500 => new HubBusyException($"{name}: the server keeps answering {(int)response.StatusCode} ({response.ReasonPhrase}); try again later", Wait(response)),
            var status => new InvalidDataException($"{name}: the server refuses with {status} ({response.ReasonPhrase})"),
        };
    }

    private static TimeSpan? Wait(HttpResponseMessage response)
    {
        var wait = response.Headers.RetryAfter switch
        {
            { Delta: { } delta } => delta,
            { Date: { } date } => date - DateTimeOffset.UtcNow,
            _ => (TimeSpan?)null,
        };
        return wait is { TotalSeconds: > MaxWaitSeconds } ? TimeSpan.FromSeconds(MaxWaitSeconds) : wait;
    }

    private static HubRevision Read(string name, byte[] answer, Uri address)
    {
        try
        {
            var json = JsonNode.Parse(answer, documentOptions: Strict)!.AsObject();
            var commit = json["sha"]!.GetValue<string>();
            var files = json["siblings"]!.AsArray().Select(static node => ReadFile(node!)).ToList();
            return commit.All(char.IsAsciiLetterOrDigit)
                ? new HubRevision(name, commit, License(json), files)
                : throw new InvalidDataException($"{address}: {HubName.Quote(commit)} is not a commit's hash");
        }
        catch (Exception error) when (error is NullReferenceException or InvalidOperationException or FormatException or JsonException)
        {
            throw new InvalidDataException($"{address} does not answer as the Hub does; check HF_ENDPOINT", error);
        }
    }

    private static HubFile ReadFile(JsonNode node)
    {
        var path = HubName.RequireInside(node["rfilename"]!.GetValue<string>());
        var large = node["lfs"];
        var hash = (large?["sha256"] ?? node["blobId"])!.GetValue<string>();
        return hash.Length is 40 or 64 && hash.All(char.IsAsciiHexDigitLower)
            ? new HubFile(path, (large?["size"] ?? node["size"])!.GetValue<long>(), hash, large is not null)
            : throw new InvalidDataException($"the Hub's listing gives {HubName.Quote(path)} the hash {HubName.Quote(hash)}, which is not a SHA-1 or SHA-256");
    }

    private static string? License(JsonObject json) =>
        json["cardData"] is JsonObject card
            ? card["license_name"]?.ToString() ?? card["license"]?.ToString()
            : (json["tags"] as JsonArray)?.Select(static tag => tag?.ToString()).FirstOrDefault(static tag => tag?.StartsWith("license:", StringComparison.Ordinal) == true)?["license:".Length..];
}

/// <summary>The server is too busy to answer now.</summary>
internal sealed class HubBusyException(string message, TimeSpan? retryAfter) : IOException(message)
{
    /// <summary>How long the server asks to wait; null if it does not say.</summary>
    public TimeSpan? RetryAfter { get; } = retryAfter;
}

/// <summary>The Hub has no such model, or denies access to it.</summary>
/// <param name="message">What was asked for, and what to do.</param>
public sealed class HubRefusedException(string message) : UnauthorizedAccessException(message);

/// <summary>A repository at one commit.</summary>
/// <param name="Name">ORG/NAME.</param>
/// <param name="Commit">The commit's hash.</param>
/// <param name="License">The licence named in its model card; null for none.</param>
/// <param name="Files">Its files.</param>
public sealed record HubRevision(string Name, string Commit, string? License, IReadOnlyList<HubFile> Files)
{
    /// <summary>What it holds.</summary>
    public HubKind Kind { get; init; }

    /// <summary>Where a file of it is.</summary>
    internal Uri AddressOf(HubFile file, Uri endpoint) =>
        new(endpoint, $"/{Kind.Prefix()}{Name}/resolve/{Commit}/{string.Join('/', file.Path.Split('/').Select(Uri.EscapeDataString))}");
}

/// <summary>A file of a repository.</summary>
/// <param name="Path">Its path in the repository, with slashes.</param>
/// <param name="Size">Its size in bytes.</param>
/// <param name="Hash">SHA-256 of the content for a large file; git's hash of the blob (SHA-1) for others. It names the blob in the cache.</param>
/// <param name="IsLarge">Whether the hash is SHA-256 (Git LFS or Xet).</param>
public sealed record HubFile(string Path, long Size, string Hash, bool IsLarge);
