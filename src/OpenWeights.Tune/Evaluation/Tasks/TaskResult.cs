namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>What a model answered to the questions of a task.</summary>
/// <param name="Name">Name of the task.</param>
/// <param name="Type">How the answers were judged.</param>
/// <param name="Answers">The answers, in the order of the questions.</param>
internal sealed record TaskResult(string Name, string Type, IReadOnlyList<TaskAnswer> Answers)
{
    /// <summary>Names of the metrics.</summary>
    public IReadOnlyList<string> Metrics => [.. Answers[0].Scores.Keys];

    /// <summary>The mean of a metric.</summary>
    /// <param name="metric">One of <see cref="Metrics"/>.</param>
    public Estimate Of(string metric) => Estimate.OfMean(Values(metric));

    /// <summary>How much better a metric is than that of another model on the same questions.</summary>
    /// <param name="metric">One of <see cref="Metrics"/>.</param>
    /// <param name="other">The other model's answers.</param>
    public Estimate Difference(string metric, TaskResult other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return Estimate.OfDifference(Values(metric), other.Values(metric));
    }

    private List<double> Values(string metric) => [.. Answers.Select(a => a.Scores[metric])];
}

/// <summary>An answer to a question of a task.</summary>
/// <param name="Prompt">The question's prompt, without examples and without a chat template.</param>
/// <param name="Expected">The right answer.</param>
/// <param name="Given">The generated text, or the likeliest choice.</param>
/// <param name="Scores">0 or 1 by metric.</param>
/// <param name="LogLikelihoods">The log-likelihood of each choice; null for a generated text.</param>
internal sealed record TaskAnswer(string Prompt, string Expected, string Given, IReadOnlyDictionary<string, double> Scores, IReadOnlyList<double>? LogLikelihoods)
{
    /// <summary>Whether tokens of the prompt were left out from its start because it was longer than the model's context.</summary>
    public bool IsCut { get; init; }
}
