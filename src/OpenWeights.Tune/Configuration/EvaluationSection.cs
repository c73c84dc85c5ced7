using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>The evaluation section.</summary>
public sealed record EvaluationSection
{
    /// <summary>Steps between evaluations.</summary>
    [Setting("Steps between evaluations; 0 evaluates only at the end.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>Number of answers to generate before and after training.</summary>
    [Setting("Number of rows to generate an answer for before and after training, scored by exact match: eval rows, or training rows if there are none; 0 for none.", Min = 0)]
    public int GenerateRows { get; init; } = 3;

    /// <summary>Number of answers to generate at each evaluation.</summary>
    [Setting("Number of those rows to generate an answer for at each evaluation as well, to show progress.", Min = 0)]
    public int Samples { get; init; } = 3;

    /// <summary>Metrics of the generated answers.</summary>
    [Setting("Metrics of the generated answers besides exact match, chrF and BLEU: rouge1, rouge2, rougeL, rougeLsum, or FILE.dll:CLASS, a class of your own.", OneOf = ["exact_match", "bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum"], OrOwnClass = true)]
    public IReadOnlyList<string> Metrics { get => CustomMetrics.Count == 0 ? field : [.. field, .. CustomMetrics.Select(OwnClass.NameOf)]; init; } = [];

    /// <summary>Metrics of your own, besides those that <see cref="Metrics"/> names.</summary>
    public IReadOnlyList<IAnswerMetric> CustomMetrics { get; init; } = [];

    /// <summary>Whether the weights with the lowest eval loss are kept.</summary>
    [Setting("Keep the weights with the lowest eval loss, in the folder best of the run; they become the run's result unless result is last.")]
    public bool KeepBest { get; init; }

    /// <summary>Which weights become the result with keep_best.</summary>
    [Setting("With keep_best: the run's result is the weights with the lowest eval loss (best) or those of the last step (last).", OneOf = ["best", "last"])]
    public string Result { get; init; } = "best";

    /// <summary>Evaluations without improvement before the run stops.</summary>
    [Setting("Early stopping: stop after this many evaluations without a lower eval loss; 0 for never.", Min = 0)]
    public int EarlyStoppingPatience { get; init; }

    /// <summary>Minimum decrease that counts as an improvement.</summary>
    [Setting("Minimum decrease of the eval loss that counts as an improvement.", Min = 0)]
    public double EarlyStoppingMinDelta { get; init; }

    /// <summary>Maximum length of a generated answer.</summary>
    [Setting("Maximum length of a generated answer, in tokens.", Min = 1)]
    public int MaxNewTokens { get; init; } = 64;
}
