namespace OpenWeights.Hub;

/// <summary>How the Hugging Face Hub is reached. The values come from the environment variables of huggingface_hub
/// (<see href="https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"/>).</summary>
public sealed record HubSettings
{
    /// <summary>The server's address (HF_ENDPOINT).</summary>
    public Uri Endpoint { get; init; } = new("https://huggingface.co");

    /// <summary>The access token: HF_TOKEN, or the file that <c>hf auth login</c> writes. Null for none.</summary>
    public string? Token { get; init; }

    /// <summary>The cache folder: HF_HUB_CACHE, or <c>hub</c> in HF_HOME.</summary>
    public required string CacheFolder { get; init; }

    /// <summary>Whether to use only what is in the cache (HF_HUB_OFFLINE).</summary>
    public bool Offline { get; init; }

    /// <summary>Number of attempts of a request.</summary>
    public int Attempts { get; init; } = 5;

    /// <summary>The wait before the second try. It doubles with each further try, and is never shorter than the server asks for.</summary>
    public TimeSpan FirstWait { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a connection may bring no bytes before it is dropped and the request tried again.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The size of the parts that a large file is fetched in.</summary>
    public long PartBytes { get; init; } = 32 << 20;

    /// <summary>Number of parts or small files fetched at the same time.</summary>
    public int Connections { get; init; } = 4;

    /// <summary>Reads the settings from the environment variables.</summary>
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
