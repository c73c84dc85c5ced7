using NUnit.Framework;
using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Tests.Evaluation;

/// <summary>BLEU and chrF against the numbers of sacreBLEU 2 (corpus_score of BLEU() and CHRF() with one reference).</summary>
public sealed class AnswerScoreTests
{
    private static readonly object[] s_sacrebleu =
    [
        Case(["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."], ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."], 28.330553664429278, 51.70106133373036),
        Case(["2018-10-19", "19", "on 3.5, or 1,000 - 20-30 &quot;x&quot;"], ["2018-10-19", "2018-10-19", "on 3.5 or 1,000, 20-30 \"x\""], 54.31503311625342, 49.715658452670326),
        Case(["Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. "], ["Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."], 24.384183193426086, 64.818123726097),
        Case(["a b"], ["a b c d e"], 0, 37.57225433526011),
        Case([""], ["reference"], 0, 0),
        Case(["über 🙂🙂 naïve café, (really?)", "x"], ["über 🙂 naïve cafe, really?", "x y z"], 12.223075560872525, 63.14131576215689),
        Case(["Producția de zahăr primă va fi exprimată în ceea ce privește zahărul alb;"], ["producţia de zahăr brut se exprimă în zahăr alb;"], 8.493098745313148, 46.16121170087866),
        Case(["one two three four five six"], ["one two three four five six"], 100, 100),
        Case(["the cat sat on the mat today again"], ["a dog sat on the rug today then"], 22.089591134157878, 41.42615395738965),
    ];

    [TestCaseSource(nameof(s_sacrebleu))]
    public void Scores_are_sacreBLEUs(string[] given, string[] expected, double bleu, double chrf)
    {
        Assert.That(Bleu.Score(given, expected), Is.EqualTo(bleu).Within(1e-9));
        Assert.That(ChrF.Score(given, expected), Is.EqualTo(chrf).Within(1e-9));
    }

    [Test]
    public void An_exact_answer_may_have_other_white_space_around_it()
    {
        var scores = AnswerScores.Of(3, "step 3", [new Answer("p", "yes", " yes\n"), new Answer("p", "yes", "no")]);
        Assert.That(scores.ExactMatch, Is.EqualTo(0.5));
        Assert.That(scores.Answers, Is.EqualTo(2));
    }

    [Test]
    public void Texts_without_a_reference_each_are_refused() => Assert.That(() => Bleu.Score(["a"], []), Throws.ArgumentException);

    private static object[] Case(string[] given, string[] expected, double bleu, double chrf) => [given, expected, bleu, chrf];
}
