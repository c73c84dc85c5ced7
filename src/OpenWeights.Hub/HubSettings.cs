namespace OpenWeights.Hub;

/// <summary>How the Hugging Face Hub is reached, by the environment variables that huggingface_hub knows
/// (<see href="https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"/>).</summary>
public sealed record HubSettings
{
    /// <summary>The server; HF_ENDPOINT.</summary>
    public Uri Endpoint { get; init; } = new("https://huggingface.co");

    /// <summary>The access token; HF_TOKEN, or the file that the hub's login writes. Null for none.</summary>
    public string? Token { get; init; }

    /// <summary>The folder with all copies; HF_HUB_CACHE, or hub within HF_HOME.</summary>
    public required string CacheFolder { get; init; }

    /// <summary>Whether the network is not to be used; HF_HUB_OFFLINE.</summary>
    public bool Offline { get; init; }

    /// <summary>How often a request is tried.</summary>
    public int Attempts { get; init; } = 5;

    /// <summary>The wait before the second try; each further one waits twice as long, and at least as long as the server says.</summary>
    public TimeSpan FirstWait { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>A connection that brings nothing for so long is given up and tried again.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Files are fetched in parts of this size, several at a time.</summary>
    public long PartBytes { get; init; } = 32 << 20;

    /// <summary>How many parts or small files are fetched at a time.</summary>
    public int Connections { get; init; } = 4;

    /// <summary>The settings that the environment gives.</summary>
    public static HubSettings FromEnvironment()
    {
        var home = Variable("HF_HOME")
            ?? Path.Combine(Variable("XDG_CACHE_HOME") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "huggingface");
        return new HubSettings
        {
            Endpoint = new Uri(Variable("HF_ENDPOINT") ?? "https://huggingface.co"),
            Token = Variable("HF_TOKEN") ?? Variable("HUGGING_FACE_HUB_TOKEN") ?? TokenFile(Variable("HF_TOKEN_PATH") ?? Path.Combine(home, "token")),
            CacheFolder = Variable("HF_HUB_CACHE") ?? Variable("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(home, "hub"),
            Offline = Variable("HF_HUB_OFFLINE")?.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE",
        };
    }

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name)?.Trim() is { Length: > 0 } value ? value : null;

    private static string? TokenFile(string path) => File.Exists(path) && File.ReadAllText(path).Trim() is { Length: > 0 } token ? token : null;
}
