using System.Net.Http.Headers;
using System.Text;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Recording.Mlflow;

/// <summary>How an MLflow server is reached.</summary>
/// <param name="Server">Its address.</param>
internal sealed record MlflowSettings(Uri Server)
{
    /// <summary>The Authorization header; null for none.</summary>
    internal AuthenticationHeaderValue? Authorization { get; init; }

    /// <summary>Number of attempts of a request before the server counts as away.</summary>
    internal int Attempts { get; init; } = 3;

    /// <summary>The wait before the second attempt, which doubles with each further one.</summary>
    internal TimeSpan FirstWait { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a server that is away is left alone before metrics are sent to it again.</summary>
    internal TimeSpan Pause { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a request may take.</summary>
    internal TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>How long metrics are collected before they are sent together.</summary>
    internal TimeSpan Collect { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long the end of a run waits for what is not sent yet.</summary>
    internal TimeSpan EndWait { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The settings of a section, with MLflow's environment variables.</summary>
    internal static MlflowSettings Of(MlflowSection section)
    {
        static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
        var (token, user) = (Variable("MLFLOW_TRACKING_TOKEN"), Variable("MLFLOW_TRACKING_USERNAME"));
        return new MlflowSettings(new Uri((section.TrackingUri ?? Variable("MLFLOW_TRACKING_URI"))!))
        {
            Authorization = token is not null ? new AuthenticationHeaderValue("Bearer", token)
                : user is not null ? new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{Variable("MLFLOW_TRACKING_PASSWORD")}")))
                : null,
        };
    }
}
