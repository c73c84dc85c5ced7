using System.Text.Json;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Expressions in Oniguruma's language.</summary>
public sealed class OnigurumaPatternTests
{
    private static IEnumerable<TestCaseData> Cases()
    {
        var file = Path.Combine(SharedFiles.Root, "tests", "fixtures", "tokenizers", "oniguruma.json");
        using var document = JsonDocument.Parse(File.ReadAllBytes(file));
        foreach (var element in document.RootElement.GetProperty("cases").EnumerateArray())
        {
            yield return new TestCaseData(
                element.GetProperty("pattern").GetString(),
                element.GetProperty("pieces").EnumerateArray().Select(c => c.EnumerateArray().Select(p => p.GetString()!).ToArray()).ToArray());
        }
    }

    private static readonly string[] s_unsupported = [@"\X", @"(a)\1", "(?i:straRe|k)"];

    [TestCaseSource(nameof(Cases))]
    public void Texts_are_cut_as_oniguruma_cuts_them(string expression, string[][] pieces)
    {
        if (s_unsupported.Contains(expression))
        {
            Assert.That(() => Parse(expression), Throws.TypeOf<InvalidDataException>());
            return;
        }

        var patterns = new List<TextPattern> { Parse(expression) };
        if (KnownPatterns.Find(expression) is { } known)
        {
            patterns.Add(known);
        }

        foreach (var pattern in patterns)
        {
            foreach (var wanted in pieces)
            {
                Assert.That(Cut(pattern, string.Concat(wanted)), Is.EqualTo(wanted));
            }
        }
    }

    [TestCase(@"(a)\1", "\\1")]
    [TestCase(@"\X+", "\\X")]
    [TestCase(@"\Ga", "\\G")]
    [TestCase(@"a\Kb", "\\K")]
    [TestCase(@"(?<n>a)\k<n>", "\\k")]
    [TestCase("(?~ab)", "(?~")]
    [TestCase("(?(1)a|b)", "(?(")]
    [TestCase("a{3,1}", "less often")]
    [TestCase("(?i)ss", "ß")]
    [TestCase("(?i)ß", "ß")]
    [TestCase("(?i:[Ø-ö])", "ß")]
    [TestCase(@"\p{Nonsense}", "Nonsense")]
    [TestCase(@"[\d-z]", "range")]
    [TestCase("[z-a]", "empty range")]
    [TestCase("[abc", "without an end")]
    [TestCase("(abc", "parenthesis")]
    [TestCase("abc)", "parenthesis")]
    [TestCase("*a", "repeats nothing")]
    [TestCase("^*", "repeats a place")]
    [TestCase(@"\xff", "7F")]
    [TestCase("[[:foo:]]", "[:foo:]")]
    [TestCase(@"a\", "backslash")]
    [TestCase(@"\pL", "braces")]
    public void What_cannot_be_translated_is_refused_with_the_reason(string expression, string reason) =>
        Assert.That(() => Parse(expression), Throws.TypeOf<InvalidDataException>()
            .With.Message.Contains(reason).And.Message.Contains(expression).And.Message.StartsWith("here: "));

    [Test]
    public void Deep_nesting_is_refused()
    {
        Assert.That(() => Parse(new string('(', 10_000) + new string(')', 10_000)), Throws.TypeOf<InvalidDataException>());
        Assert.That(() => Parse(new string('[', 10_000) + "a" + new string(']', 10_000)), Throws.TypeOf<InvalidDataException>());
    }

    private static OnigurumaPattern Parse(string expression) =>
        OnigurumaPattern.Parse(expression, what => new InvalidDataException("here: " + what));

    private static string[] Cut(TextPattern pattern, string text)
    {
        var matches = new List<PatternMatch>();
        pattern.FindMatches(text, matches);
        return [.. matches.Where(m => m.End > m.Start).Select(m => text[m.Start..m.End])];
    }
}
