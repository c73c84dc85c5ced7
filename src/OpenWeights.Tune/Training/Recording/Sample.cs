using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>A generated answer during training; one line of samples.jsonl.</summary>
internal sealed record Sample
{
    /// <summary>Number of completed steps.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>"before training", "after training", or "step N".</summary>
    [JsonPropertyName("when")]
    public required string When { get; init; }

    /// <summary>Which rows it comes from: eval, held_back or train.</summary>
    [JsonPropertyName("rows")]
    public required string Rows { get; init; }

    /// <summary>The prompt.</summary>
    [JsonPropertyName("prompt")]
    public required string Prompt { get; init; }

    /// <summary>The reference answer.</summary>
    [JsonPropertyName("expected")]
    public required string Expected { get; init; }

    /// <summary>The model's answer.</summary>
    [JsonPropertyName("given")]
    public required string Given { get; init; }
}
