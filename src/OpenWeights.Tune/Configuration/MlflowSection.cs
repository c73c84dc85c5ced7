namespace OpenWeights.Tune.Configuration;

/// <summary>The mlflow section: the run is also recorded by an MLflow server.</summary>
public sealed record MlflowSection
{
    /// <summary>Address of the server.</summary>
    [Setting("Address of the MLflow server, such as http://localhost:5000; by default the environment variable MLFLOW_TRACKING_URI. Credentials are read from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.")]
    public string? TrackingUri { get; init; }

    /// <summary>Name of the experiment.</summary>
    [Setting("Name of the experiment, which is created if there is none.")]
    public string Experiment { get; init; } = "owt";

    /// <summary>Name of the run.</summary>
    [Setting("Name of the run; by default that of its output folder.")]
    public string? RunName { get; init; }

    /// <summary>What is uploaded at the end.</summary>
    [Setting("What is uploaded at the end: none; report (config.yaml, manifest.json, report.html); result (these, and the adapter or model).", OneOf = ["none", "report", "result"])]
    public string Artifacts { get; init; } = "report";

    /// <summary>Tags of the run.</summary>
    [Setting("Tags of the run, such as { team: search }.")]
    public IReadOnlyDictionary<string, string> Tags { get; init; } = new Dictionary<string, string>();

    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Problems(MlflowSection section)
    {
        var address = section.TrackingUri ?? Environment.GetEnvironmentVariable("MLFLOW_TRACKING_URI");
        if (string.IsNullOrEmpty(address))
        {
            yield return ("mlflow.tracking_uri", "the address of the server is missing; set it, such as http://localhost:5000, or the environment variable MLFLOW_TRACKING_URI.");
        }
        else if (!Uri.TryCreate(address, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https"))
        {
            yield return ("mlflow.tracking_uri", "an address of a server is expected, such as http://localhost:5000; folders and databases of MLflow are not written to.");
        }
        else if (uri.UserInfo.Length > 0)
        {
            yield return ("mlflow.tracking_uri", "the address holds a password, which would be written into the run's files; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.");
        }
    }
}
