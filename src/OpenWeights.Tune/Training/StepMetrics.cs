using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training;

/// <summary>Metrics of a step; one line of metrics.jsonl.</summary>
public sealed record StepMetrics
{
    /// <summary>The step, from 1: the number of completed steps.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>Number of passes over the training rows, as a fraction.</summary>
    [JsonPropertyName("epoch")]
    public required double Epoch { get; init; }

    /// <summary>The objective's loss before the update; for sft the cross entropy per target token.</summary>
    [JsonPropertyName("loss")]
    [JsonConverter(typeof(FiniteOrNullConverter))]
    public required double Loss { get; init; }

    /// <summary>Learning rate of the step.</summary>
    [JsonPropertyName("learning_rate")]
    public required double LearningRate { get; init; }

    /// <summary>Global gradient norm before clipping.</summary>
    [JsonPropertyName("grad_norm")]
    [JsonConverter(typeof(FiniteOrNullConverter))]
    public required double GradNorm { get; init; }

    /// <summary>Number of tokens, without padding.</summary>
    [JsonPropertyName("tokens")]
    public required long Tokens { get; init; }

    /// <summary>Number of target tokens.</summary>
    [JsonPropertyName("target_tokens")]
    public required long TargetTokens { get; init; }

    /// <summary>Tokens per second.</summary>
    [JsonPropertyName("tokens_per_second")]
    public required double TokensPerSecond { get; init; }

    /// <summary>Duration in seconds.</summary>
    [JsonPropertyName("seconds")]
    public required double Seconds { get; init; }

    /// <summary>The part of it for gradient norm and optimizer step.</summary>
    [JsonIgnore]
    public double UpdateSeconds { get; init; }

    /// <summary>Several ranks: the part of the duration in which the first rank did nothing but wait for others and exchange numbers with them; null for one process.</summary>
    [JsonPropertyName("communication_seconds")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? CommunicationSeconds { get; init; }

    /// <summary>Peak memory of the process so far.</summary>
    [JsonPropertyName("peak_memory_bytes")]
    public required long PeakMemoryBytes { get; init; }

    /// <summary>Whether the step was skipped because its loss or a gradient was not finite.</summary>
    [JsonPropertyName("skipped")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Skipped { get; init; }

    /// <summary>Float16: the loss scale; null in other dtypes.</summary>
    [JsonPropertyName("loss_scale")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? LossScale { get; init; }

    /// <summary>Float16: whether the step was skipped only because its gradients overflowed at this scale, which is then lowered.</summary>
    [JsonIgnore]
    public bool Overflowed { get; init; }

    /// <summary>Whether the loss is a spike.</summary>
    [JsonPropertyName("spike")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool Spike { get; init; }

    /// <summary>The rows of a skipped step or a spike.</summary>
    [JsonPropertyName("rows")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Rows { get; init; }

    /// <summary>Metrics of the objective besides its loss, by TRL's names; written beside the others.</summary>
    [JsonIgnore]
    public IReadOnlyDictionary<string, double> Objective { get; init; } = new Dictionary<string, double>();
}
