using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Scores of generated answers against the reference answers of the rows; one line of metrics.jsonl.</summary>
public sealed record AnswerScores
{
    /// <summary>Number of completed steps.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>"before training", "after training", or "step N".</summary>
    [JsonPropertyName("when")]
    public required string When { get; init; }

    /// <summary>Which rows were used.</summary>
    [JsonIgnore]
    internal EvaluationRows Asked { get; init; }

    /// <summary>Number of answers.</summary>
    [JsonPropertyName("eval_answers")]
    public required int Answers { get; init; }

    /// <summary>Fraction of answers that equal the reference, ignoring leading and trailing white space (exact match).</summary>
    [JsonPropertyName("eval_exact_match")]
    public required double ExactMatch { get; init; }

    /// <summary>chrF over all answers, from 0 to 100.</summary>
    [JsonPropertyName("eval_chrf")]
    public required double ChrF { get; init; }

    /// <summary>BLEU over all answers, from 0 to 100.</summary>
    [JsonPropertyName("eval_bleu")]
    public required double Bleu { get; init; }

    /// <summary>The metrics that evaluation.metrics names, by name.</summary>
    [JsonIgnore]
    public IReadOnlyDictionary<string, double> Metrics { get; init; } = new Dictionary<string, double>();

    /// <summary>Scores answers.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="when">When the answers were generated.</param>
    /// <param name="answers">At least one answer.</param>
    /// <param name="asked">Which rows were used.</param>
    /// <param name="metrics">More metrics.</param>
    internal static AnswerScores Of(long step, string when, IReadOnlyList<Answer> answers, EvaluationRows asked = EvaluationRows.Eval, IReadOnlyList<AnswerMetric>? metrics = null)
    {
        ArgumentNullException.ThrowIfNull(answers);
        IReadOnlyList<string> given = [.. answers.Select(static a => a.Given.Trim())];
        IReadOnlyList<string> expected = [.. answers.Select(static a => a.Expected.Trim())];
        return new AnswerScores
        {
            Step = step,
            When = when,
            Asked = asked,
            Answers = answers.Count,
            ExactMatch = (double)answers.Count(static a => a.IsExact) / answers.Count,
            ChrF = Evaluation.ChrF.Score(given, expected),
            Bleu = Evaluation.Bleu.Score(given, expected),
            Metrics = (metrics ?? []).ToDictionary(static m => m.Name, m => m.Of(answers).Value),
        };
    }
}
