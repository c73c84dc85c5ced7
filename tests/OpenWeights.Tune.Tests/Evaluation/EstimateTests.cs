using NUnit.Framework;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Evaluation.Tasks;

namespace OpenWeights.Tune.Tests.Evaluation;

/// <summary>Standard errors and intervals against their definitions, and how answers of tasks are judged.</summary>
public sealed class EstimateTests
{
    private const double Normal = 1.959963984540054;

    // The harness: stddev of the sample / sqrt(n), 21 of 24 right.
    [Test]
    public void The_standard_error_of_an_accuracy_is_the_harnesss_and_the_interval_is_Wilsons()
    {
        double[] values = [.. Enumerable.Range(0, 24).Select(static i => i < 21 ? 1.0 : 0)];
        var estimate = Estimate.OfMean(values);
        Assert.That(estimate.Value, Is.EqualTo(0.875));
        Assert.That(estimate.StandardError, Is.EqualTo(0.06895966054592131).Within(1e-15));
        foreach (var end in new[] { estimate.Low, estimate.High })
        {
            // At each end the measured value is just 1.96 standard errors of that proportion away.
            Assert.That(Math.Abs(0.875 - end), Is.EqualTo(Normal * Math.Sqrt(end * (1 - end) / 24)).Within(1e-12));
        }

        Assert.That(Estimate.OfMean([1, 1, 1]).High, Is.EqualTo(1).Within(1e-12), "all right");
        Assert.That(Estimate.OfMean([1]).StandardError, Is.NaN, "one question");
    }

    [Test]
    public void A_difference_on_the_same_questions_has_the_error_of_the_differences()
    {
        // Both are wrong and right together but for one question, so that the difference is known better than either.
        double[] values = [1, 0, 1, 1, 0, 1], others = [1, 0, 1, 0, 0, 1];
        var difference = Estimate.OfDifference(values, others);
        Assert.That(difference.Value, Is.EqualTo(1.0 / 6).Within(1e-12));
        Assert.That(difference.StandardError, Is.EqualTo(1.0 / 6).Within(1e-12), "differences 0 0 0 1 0 0 have the variance 1/6");
    }

    [Test]
    public void A_score_of_a_corpus_varies_as_those_of_corpora_drawn_from_it()
    {
        // A mean is a score too, whose standard error is known.
        double[] values = [.. Enumerable.Range(0, 200).Select(static i => (double)(i % 10))];
        var drawn = Estimate.OfCorpus(values.Length, chosen => chosen.Average(i => values[i]));
        var known = Estimate.OfMean(values);
        Assert.That(drawn.Value, Is.EqualTo(known.Value).Within(1e-12));
        Assert.That(drawn.StandardError, Is.EqualTo(known.StandardError).Within(10).Percent);
        Assert.That((drawn.Low, drawn.High), Is.EqualTo((known.Low, known.High)).Using<(double Low, double High)>(static (a, b) => Math.Abs(a.Low - b.Low) < 0.1 && Math.Abs(a.High - b.High) < 0.1));
    }

    // The regular expressions of the harness's gsm8k.yaml.
    [TestCase("She has 3 + 4 = 7.\n#### 7", "so\n#### 7", true, true)]
    [TestCase("The answer is 1,234.", "x\n#### 1234", false, true)]
    [TestCase("#### 1,234.", "#### 1234", true, true)]
    [TestCase("#### -5", "#### -5", true, true)]
    [TestCase("It costs $18.", "#### 18", false, true)]
    [TestCase("#### 7 and then 8", "#### 7", true, false)]
    [TestCase("no number", "#### 7", false, false)]
    [TestCase("7", "#### 7", false, true)]
    [TestCase("####7", "#### 7", false, true)]
    public void The_number_of_an_answer_is_found_as_the_harness_finds_it(string given, string expected, bool strict, bool flexible) =>
        Assert.That((AnswerJudge.IsMarkedNumber(given, expected), AnswerJudge.IsLastNumber(given, expected)), Is.EqualTo((strict, flexible)));

    [Test]
    public void An_exact_match_may_ignore_case_and_punctuation()
    {
        var task = new TaskSection { Path = "x" };
        Assert.That(AnswerJudge.IsSame(" Paris\n", "Paris", task), Is.True);
        Assert.That(AnswerJudge.IsSame("paris.", "Paris", task), Is.False);
        Assert.That(AnswerJudge.IsSame("paris.", "Paris", task with { IgnoreCase = true, IgnorePunctuation = true }), Is.True);
    }
}
