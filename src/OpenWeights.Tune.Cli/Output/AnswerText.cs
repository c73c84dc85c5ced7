using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Prints answers before and after training.</summary>
internal static class AnswerText
{
    private const int Samples = 3;

    internal static void Write(TextWriter output, IReadOnlyList<Answer>? before, IReadOnlyList<Answer> after, EvaluationRows asked)
    {
        output.WriteLine(asked == EvaluationRows.Trained ? $"On {after.Count} of the rows that were trained on, since there are no others:" : $"On {after.Count} eval rows that were not trained on:");
        output.WriteLine($"  exactly right before training: {(before is null ? "not measured in this part of the run" : Share(before))}");
        output.WriteLine($"  exactly right after training:  {Share(after)}");
        var shown = Math.Min(Samples, after.Count);
        for (var i = 0; i < shown; i++)
        {
            // Spread over the rows, so that the samples are varied.
            var at = i * after.Count / shown;
            output.WriteLine();
            output.WriteLine($"  prompt:   {Line(after[at].Prompt)}");
            output.WriteLine($"  expected: {Line(after[at].Expected)}");
            output.WriteLine($"  before:   {(before is null ? "-" : Line(before[at].Given))}");
            output.WriteLine($"  after:    {Line(after[at].Given)}");
        }

        output.WriteLine();
    }

    private static string Share(IReadOnlyList<Answer> answers)
    {
        var exact = answers.Count(static a => a.IsExact);
        return $"{exact} of {answers.Count} ({Amount.Percent((double)exact / answers.Count)})";
    }

    internal static string Line(string text)
    {
        var line = text.Trim().Replace("\n", "\\n", StringComparison.Ordinal);
        return line.Length <= 100 ? line : line[..100] + "...";
    }
}
