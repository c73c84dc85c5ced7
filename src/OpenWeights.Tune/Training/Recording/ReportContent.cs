using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>What a report shows.</summary>
/// <param name="Plan">What the run was to do.</param>
/// <param name="State">How it stands, such as "finished".</param>
/// <param name="Metrics">The lines of metrics.jsonl.</param>
/// <param name="Samples">The lines of samples.jsonl.</param>
/// <param name="Config">The text of config.yaml.</param>
/// <param name="Manifest">The text of manifest.json.</param>
public sealed record ReportContent(RunPlan Plan, string State, IReadOnlyList<JsonObject> Metrics, IReadOnlyList<JsonObject> Samples, string Config, string Manifest)
{
    /// <summary>The numbers of a key with their steps, where lines have one.</summary>
    /// <param name="key">The key of metrics.jsonl.</param>
    public IReadOnlyList<(double Step, double Value)> Series(string key) =>
    [
        .. from line in Metrics
           where line[key] is JsonValue
           select ((double)line["step"]!.GetValue<long>(), line[key]!.GetValue<double>()),
    ];
}
