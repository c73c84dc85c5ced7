namespace OpenWeights.Tune.Data.Tokens;

/// <summary>An answer that a policy sampled, with what training needs of it. Lists of numbers have one for each target of its row.</summary>
internal sealed class AnswerSample
{
    /// <summary>Which answers are one prompt's.</summary>
    public required string Group { get; init; }

    /// <summary>Rewards by name; null where one was not judged.</summary>
    public required IReadOnlyDictionary<string, double?> Rewards { get; init; }

    /// <summary>Whether it ended because it reached the maximum length.</summary>
    public required bool IsTruncated { get; init; }

    /// <summary>Number of tokens of the answer.</summary>
    public required int Length { get; init; }

    /// <summary>Log-probabilities by the policy that sampled it; null for the current one's.</summary>
    public IReadOnlyList<float>? LogProbs { get; set; }

    /// <summary>Log-probabilities by the reference; null without one.</summary>
    public IReadOnlyList<float>? ReferenceLogProbs { get; set; }

    /// <summary>Log-probabilities as the sampler computed them, which differ from those of training by rounding alone; null for a recorded answer.</summary>
    public IReadOnlyList<float>? SamplingLogProbs { get; init; }

    /// <summary>Text of its prompt; null for a recorded answer.</summary>
    public string? PromptText { get; init; }

    /// <summary>Its text; null for a recorded answer.</summary>
    public string? AnswerText { get; init; }

    /// <summary>The reference answer; null if there is none.</summary>
    public string? Expected { get; init; }

    /// <summary>How much better it is than the other answers of its prompt.</summary>
    public double Advantage { get; set; }
}
