using NUnit.Framework;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Answers before and after training, as they are shown at the end of a run.</summary>
public sealed class AnswerTextTests
{
    [TestCase(1, new[] { 0 })]
    [TestCase(2, new[] { 0, 1 })]
    [TestCase(3, new[] { 0, 1, 2 })]
    [TestCase(200, new[] { 0, 66, 133 })]
    public void The_answers_shown_are_of_different_rows_spread_over_all(int count, int[] shown)
    {
        List<Answer> answers = [.. Enumerable.Range(0, count).Select(static i => new Answer($"prompt {i}.", "expected", "given"))];
        using var text = new StringWriter();
        AnswerText.Write(text, answers, answers, EvaluationRows.Eval);
        var prompts = text.ToString().Split('\n').Where(static l => l.Contains("prompt:", StringComparison.Ordinal)).Select(static l => l.Trim()["prompt:".Length..].Trim());
        Assert.That(prompts, Is.EqualTo(shown.Select(static i => $"prompt {i}.")));
    }
}
