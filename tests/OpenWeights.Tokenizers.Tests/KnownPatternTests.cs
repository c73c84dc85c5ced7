using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>The hand-written split patterns against the expressions that they stand for.</summary>
public sealed class KnownPatternTests
{
    private static readonly string[] s_expressions = [Gpt2Pattern.Expression, Cl100kPattern.Llama3, Cl100kPattern.Qwen2];

    [TestCaseSource(nameof(s_expressions))]
    public void The_pieces_are_those_of_the_expression(string expression)
    {
        var byHand = KnownPatterns.Find(expression)!;
        var general = OnigurumaPattern.Parse(expression, what => new InvalidDataException(what));
        var random = new Random(1);
        for (var i = 0; i < 4000; i++)
        {
            var text = i % 2 == 0 ? RandomText.Make(random, 14) : WellFormedText.Of(RandomText.MakeRaw(random, 24)).ToString();
            var wanted = new List<PatternMatch>();
            var got = new List<PatternMatch>();
            general.FindMatches(text, wanted);
            byHand.FindMatches(text, got);
            Assert.That(got, Is.EqualTo(wanted), () => GoldenCase.Show(text));
        }
    }

    [TestCaseSource(nameof(s_expressions))]
    public void Every_pair_of_characters_is_cut_as_by_the_expression(string expression)
    {
        var byHand = KnownPatterns.Find(expression)!;
        var general = OnigurumaPattern.Parse(expression, what => new InvalidDataException(what));
        var characters = Enumerable.Range(0, 0x180).Select(c => (char)c).Concat("\u017F\u0300\u06F0\u1680\u2028\u202F\u205F\u3000\uFEFF漢ア한").ToArray();
        var text = string.Concat(characters.SelectMany(a => characters.Select(b => $"{a}{b}x'{a}{b}")));
        var wanted = new List<PatternMatch>();
        var got = new List<PatternMatch>();
        general.FindMatches(text, wanted);
        byHand.FindMatches(text, got);
        Assert.That(got, Is.EqualTo(wanted));
    }
}
