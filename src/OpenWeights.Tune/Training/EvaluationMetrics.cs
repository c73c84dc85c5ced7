using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training;

/// <summary>An evaluation; a line of metrics.jsonl.</summary>
public sealed record EvaluationMetrics
{
    /// <summary>The number of steps done.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>The mean cross entropy of the eval data's target tokens.</summary>
    [JsonPropertyName("eval_loss")]
    public required double Loss { get; init; }

    /// <summary>e to the loss.</summary>
    [JsonPropertyName("eval_perplexity")]
    public required double Perplexity { get; init; }

    /// <summary>The share of target tokens that were the model's first choice.</summary>
    [JsonPropertyName("eval_token_accuracy")]
    public required double TokenAccuracy { get; init; }

    /// <summary>The number of target tokens.</summary>
    [JsonPropertyName("eval_target_tokens")]
    public required long TargetTokens { get; init; }
}
