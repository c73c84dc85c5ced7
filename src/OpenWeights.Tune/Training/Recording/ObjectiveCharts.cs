namespace OpenWeights.Tune.Training.Recording;

/// <summary>Charts of a report about what an objective watches besides its loss.</summary>
internal static class ObjectiveCharts
{
    private static readonly (string Title, string[] Keys)[] s_charts =
    [
        ("Share of pairs whose chosen answer has the higher reward", ["rewards/accuracies", "eval_rewards/accuracies"]),
        ("Margin of the rewards", ["rewards/margins", "eval_rewards/margins"]),
        ("Rewards", ["rewards/chosen", "rewards/rejected"]),
        ("Log-probabilities of answers", ["logps/chosen", "logps/rejected"]),
        ("Accuracy of rewards or classes", ["accuracy", "eval_accuracy"]),
        ("Agreement with the teacher", ["teacher_agreement", "eval_teacher_agreement"]),
    ];

    /// <summary>The charts for which a run has values.</summary>
    /// <param name="content">Contents of the report.</param>
    internal static IEnumerable<string> Of(ReportContent content) => s_charts.Select(c =>
        SvgChart.Of(c.Title, [.. c.Keys.Select(k => new SvgChart.Line(k, content.Series(k), Dots: k.StartsWith("eval_", StringComparison.Ordinal)))]));
}
