using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Evaluation;

/// <summary>A metric of generated answers.</summary>
internal sealed class AnswerMetric
{
    private readonly Func<string, string, bool, double>? _each;
    private readonly (Func<string, string, long[]> Counts, Func<long[], double> Score, int Length)? _corpus;

    private AnswerMetric(string name, Func<string, string, bool, double> each) => (Name, _each) = (name, each);

    private AnswerMetric(string name, Func<string, string, long[]> counts, Func<long[], double> score, int length) => (Name, _corpus) = (name, (counts, score, length));

    /// <summary>All metrics.</summary>
    public static IReadOnlyList<AnswerMetric> All { get; } =
    [
        new("exact_match", static (given, expected, _) => given == expected ? 1 : 0),
        new("bleu", Bleu.Counts, Bleu.Score, Bleu.CountsLength),
        new("chrf", ChrF.Counts, ChrF.Score, ChrF.CountsLength),
        new("rouge1", static (given, expected, stems) => Rouge.OfNGrams(given, expected, 1, stems).FMeasure),
        new("rouge2", static (given, expected, stems) => Rouge.OfNGrams(given, expected, 2, stems).FMeasure),
        new("rougeL", static (given, expected, stems) => Rouge.OfSequence(given, expected, stems).FMeasure),
        new("rougeLsum", static (given, expected, stems) => Rouge.OfLines(given, expected, stems).FMeasure),
    ];

    /// <summary>The metric of a name: one of <see cref="All"/>, or one of the user's.</summary>
    /// <param name="name">The name.</param>
    /// <param name="settings">Settings that a class of the user's is created with.</param>
    /// <returns>The metric; null if there is none of that name.</returns>
    /// <exception cref="InvalidDataException">The assembly has no such class, or it cannot be created.</exception>
    /// <exception cref="FileNotFoundException">There is no such assembly.</exception>
    internal static AnswerMetric? Find(string name, EvaluationSection settings) =>
        OwnClass.Is(name) ? Of(OwnClass.Create<IAnswerMetric>(name, settings)) : All.FirstOrDefault(m => m.Name == name);

    /// <summary>The metrics of a run's answers.</summary>
    /// <param name="settings">The settings.</param>
    internal static IReadOnlyList<AnswerMetric> Of(EvaluationSection settings)
    {
        var own = settings.CustomMetrics.Select(OwnClass.NameOf).ToHashSet();
        return [.. settings.Metrics.Where(n => !own.Contains(n)).Select(n => Find(n, settings)!), .. settings.CustomMetrics.Select(Of)];
    }

    private static AnswerMetric Of(IAnswerMetric own) => new(own.Name, (given, expected, _) => own.Score(given, expected));

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>Whether it is a score of each answer, whose mean is reported; otherwise of all answers together.</summary>
    public bool IsOfEach => _each is not null;

    /// <summary>The score of each answer; null if it is a score of all together.</summary>
    /// <param name="answers">The answers; white space around them is ignored.</param>
    /// <param name="stems">Whether ROUGE stems words.</param>
    public IReadOnlyList<double>? Each(IReadOnlyList<Answer> answers, bool stems = false)
    {
        ArgumentNullException.ThrowIfNull(answers);
        return _each is null ? null : [.. answers.Select(a => _each(a.Given.Trim(), a.Expected.Trim(), stems))];
    }

    /// <summary>The score of answers.</summary>
    /// <param name="answers">At least one answer.</param>
    /// <param name="stems">Whether ROUGE stems words.</param>
    public Estimate Of(IReadOnlyList<Answer> answers, bool stems = false)
    {
        if (Each(answers, stems) is { } values)
        {
            return Estimate.OfMean(values);
        }

        var (_, score, length) = _corpus!.Value;
        var counts = Counts(answers);
        return Estimate.OfCorpus(counts.Length, chosen => score(CorpusSums.Of(chosen.Select(i => counts[i]), length)));
    }

    /// <summary>How much better answers are than others to the same questions.</summary>
    /// <param name="answers">The answers.</param>
    /// <param name="others">The other answers.</param>
    /// <param name="stems">Whether ROUGE stems words.</param>
    public Estimate Difference(IReadOnlyList<Answer> answers, IReadOnlyList<Answer> others, bool stems = false)
    {
        if (Each(answers, stems) is { } values)
        {
            return Estimate.OfDifference(values, Each(others, stems)!);
        }

        var (_, score, length) = _corpus!.Value;
        var (counts, theirs) = (Counts(answers), Counts(others));
        return Estimate.OfCorpus(counts.Length, chosen =>
        {
            var drawn = chosen.ToList();
            return score(CorpusSums.Of(drawn.Select(i => counts[i]), length)) - score(CorpusSums.Of(drawn.Select(i => theirs[i]), length));
        });
    }

    private long[][] Counts(IReadOnlyList<Answer> answers) => [.. answers.Select(a => _corpus!.Value.Counts(a.Given.Trim(), a.Expected.Trim()))];
}
