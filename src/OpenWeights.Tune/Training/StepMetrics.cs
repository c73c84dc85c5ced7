using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training;

/// <summary>What a step did; a line of metrics.jsonl.</summary>
public sealed record StepMetrics
{
    /// <summary>The step, from 1: the number of steps done.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>How often all rows were gone through, as a fraction.</summary>
    [JsonPropertyName("epoch")]
    public required double Epoch { get; init; }

    /// <summary>The cross entropy per target token of the step, before its update.</summary>
    [JsonPropertyName("loss")]
    [JsonConverter(typeof(FiniteOrNullConverter))]
    public required double Loss { get; init; }

    /// <summary>The learning rate of the step.</summary>
    [JsonPropertyName("learning_rate")]
    public required double LearningRate { get; init; }

    /// <summary>The norm of all gradients before clipping.</summary>
    [JsonPropertyName("grad_norm")]
    [JsonConverter(typeof(FiniteOrNullConverter))]
    public required double GradNorm { get; init; }

    /// <summary>The step's tokens, without padding.</summary>
    [JsonPropertyName("tokens")]
    public required long Tokens { get; init; }

    /// <summary>The step's predicted tokens.</summary>
    [JsonPropertyName("target_tokens")]
    public required long TargetTokens { get; init; }

    /// <summary>Tokens per second of this step.</summary>
    [JsonPropertyName("tokens_per_second")]
    public required double TokensPerSecond { get; init; }

    /// <summary>The step's seconds.</summary>
    [JsonPropertyName("seconds")]
    public required double Seconds { get; init; }

    /// <summary>Of these, those of the gradients' norm and the optimizer's step.</summary>
    [JsonIgnore]
    public double UpdateSeconds { get; init; }

    /// <summary>The most memory the process has held so far.</summary>
    [JsonPropertyName("peak_memory_bytes")]
    public required long PeakMemoryBytes { get; init; }

    /// <summary>Whether the step was left out because its loss or a gradient was not finite.</summary>
    [JsonPropertyName("skipped")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Skipped { get; init; }

    /// <summary>Float16: what the loss was multiplied by before backward; null in other dtypes.</summary>
    [JsonPropertyName("loss_scale")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? LossScale { get; init; }

    /// <summary>Float16: whether the step was left out only because its gradients overflowed at that scale, which is lower from then on.</summary>
    [JsonIgnore]
    public bool Overflowed { get; init; }

    /// <summary>Whether the loss stands out from those before it.</summary>
    [JsonPropertyName("spike")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Spike { get; init; }

    /// <summary>The rows of a step that was skipped or whose loss stands out.</summary>
    [JsonPropertyName("rows")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Rows { get; init; }
}
