using System.Net;

namespace OpenWeights.Tune.Server;

/// <summary>Settings of an <see cref="AnswerServer"/>.</summary>
internal sealed record ServerOptions
{
    /// <summary>Address to listen on: an IP address, localhost, or * for all.</summary>
    public string Host { get; init; } = "127.0.0.1";

    /// <summary>Port to listen on; 0 for a free one.</summary>
    public int Port { get; init; } = 8080;

    /// <summary>Keys of which each request must have one; empty for none, which is possible on loopback alone.</summary>
    public IReadOnlyList<string> ApiKeys { get; init; } = [];

    /// <summary>Origins of web pages that may use the server besides its own page, such as https://example.org; * for all.</summary>
    public IReadOnlyList<string> CorsOrigins { get; init; } = [];

    /// <summary>The folder below which adapters can be loaded at run time; null for none.</summary>
    public string? AdaptersBelow { get; init; }

    /// <summary>Maximum size of a request, in bytes.</summary>
    public long MaxRequestBytes { get; init; } = 8 << 20;

    /// <summary>Maximum number of choices of a request, over all of its prompts.</summary>
    public int MaxChoices { get; init; } = 32;

    /// <summary>Maximum number of connections at a time.</summary>
    public int MaxConnections { get; init; } = 1024;

    /// <summary>How long an answer may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(30);

    /// <summary>Whether / is a page to chat with.</summary>
    public bool HasPage { get; init; } = true;

    /// <summary>Whether only programs of this machine reach the server.</summary>
    public bool IsLoopback => Host == "localhost" || (IPAddress.TryParse(Host, out var address) && IPAddress.IsLoopback(address));

    /// <summary>Why the server cannot be started with these settings; null if it can.</summary>
    public string? Problem =>
        !IsLoopback && ApiKeys.Count == 0 ? $"the server would be open to everyone who reaches {Host}: name a key that requests must have, with --api-key-file FILE (or --api-key KEY), or leave --host out to serve this machine alone."
        : ApiKeys.Any(static k => k.Length == 0 || k.Any(static c => c is <= ' ' or > '~')) ? "an API key is empty, or has characters that a header cannot have."
        : Host is not ("localhost" or "*") && !IPAddress.TryParse(Host, out _) ? $"'{Host}' is no address to listen on: give an IP address, localhost, or * for all."
        : CorsOrigins.FirstOrDefault(static o => o != "*" && !(Uri.TryCreate(o, UriKind.Absolute, out var uri) && (uri.Scheme is "http" or "https") && o == uri.GetLeftPart(UriPartial.Authority))) is { } origin
            ? $"'{origin}' is no origin of web pages: one is written as https://example.org, without a path."
        : AdaptersBelow is { } folder && !Directory.Exists(folder) ? $"the folder of adapters, {folder}, does not exist."
        : null;
}
