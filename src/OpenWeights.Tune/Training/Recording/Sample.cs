using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>An answer of the model while it was trained; a line of samples.jsonl.</summary>
public sealed record Sample
{
    /// <summary>The number of steps done.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>"before training", "after training", or "step N".</summary>
    [JsonPropertyName("when")]
    public required string When { get; init; }

    /// <summary>Whose row it is: eval, held_back or train.</summary>
    [JsonPropertyName("rows")]
    public required string Rows { get; init; }

    /// <summary>The prompt.</summary>
    [JsonPropertyName("prompt")]
    public required string Prompt { get; init; }

    /// <summary>The row's answer.</summary>
    [JsonPropertyName("expected")]
    public required string Expected { get; init; }

    /// <summary>The model's.</summary>
    [JsonPropertyName("given")]
    public required string Given { get; init; }
}
