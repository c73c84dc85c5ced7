using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Tests.Evaluation;

/// <summary>ROUGE and the stemmer against the answers of rouge-score and NLTK.</summary>
public sealed class RougeTests
{
    private static readonly JsonObject s_golden = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("fixtures", "rouge", "rouge.json")))!.AsObject();

    [Test]
    public void Scores_are_rouge_scores([Values] bool stems)
    {
        foreach (var (row, i) in s_golden["cases"]!.AsArray().Select(static (r, i) => (r!, i)))
        {
            var (given, expected) = (row["prediction"]!.ToString(), row["target"]!.ToString());
            var golden = row[stems ? "stemmed" : "plain"]!;
            Check(golden["rouge1"]!, Rouge.OfNGrams(given, expected, 1, stems), $"{i}: ROUGE-1");
            Check(golden["rouge2"]!, Rouge.OfNGrams(given, expected, 2, stems), $"{i}: ROUGE-2");
            Check(golden["rougeL"]!, Rouge.OfSequence(given, expected, stems), $"{i}: ROUGE-L");
            Check(golden["rougeLsum"]!, Rouge.OfLines(given, expected, stems), $"{i}: ROUGE-Lsum");
        }
    }

    [Test]
    public void Stems_are_NLTKs() => Assert.That(
        s_golden["stems"]!.AsObject().Where(static s => PorterStemmer.Stem(s.Key) != s.Value!.ToString()).Select(static s => $"{s.Key}: {PorterStemmer.Stem(s.Key)}, not {s.Value}"), Is.Empty);

    private static void Check(JsonNode golden, RougeScore score, string what)
    {
        double[] expected = [.. golden.AsArray().Select(static v => v!.GetValue<double>())];
        Assert.That(new[] { score.Precision, score.Recall, score.FMeasure }, Is.EqualTo(expected).Within(1e-12), what);
    }
}
