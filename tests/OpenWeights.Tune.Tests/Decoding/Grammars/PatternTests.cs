using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>Patterns as automata, compared with .NET's regular expressions.</summary>
public sealed class PatternTests
{
    private static readonly string[] s_patterns =
    [
        "^a*b+c?$", "a|bc|^c", "^(a|b)*c$", "(^a|b$)", "^[^ab]+$", "^[a-c-]{2,3}$", "^(?:ab){2,}$", "^a{0}b{1}$", "\\d{2}", "^\\w\\W$", "^\\s?\\S$", ".", "^.$", "^$", "", "^a.c$", "[.]", "^\\.\\-\\/$",
        "^\\u0061\\x62$", "^(a(b(c)?)?)?$", "^a+?b$", "^(?<name>a)b$", "^a{x}$", "^[\\d_]+$", "a$|^b"
    ];

    [Test]
    public void A_pattern_matches_what_another_reader_says([ValueSource(nameof(s_patterns))] string pattern)
    {
        var (texts, regex) = (PatternParser.Parse(pattern), new Regex(pattern, RegexOptions.ECMAScript));
        // Unlike ECMAScript's, .NET's $ matches before a last line end too.
        foreach (var text in Texts("abc1 _-.\n{x}/", 4, new Random(1)).Where(static t => !t.EndsWith('\n')))
        {
            Assert.That(texts.Matches(text), Is.EqualTo(regex.IsMatch(text)), text);
        }
    }

    [Test]
    public void An_empty_class_matches_nothing() => Assert.That(PatternParser.Parse("^a[]?$").Matches("a"), Is.True);

    [Test]
    public void Two_automata_together_have_the_texts_of_both()
    {
        var (one, other) = (PatternParser.Parse("^[ab]*$"), PatternParser.Parse("b"));
        var (both, none) = (one.And(other), one.Not());
        foreach (var text in Texts("abc", 4, new Random(2)))
        {
            Assert.That(both.Matches(text), Is.EqualTo(one.Matches(text) && other.Matches(text)), text);
            Assert.That(none.Matches(text), Is.EqualTo(!one.Matches(text)), text);
        }
    }

    [TestCase(0, 0)]
    [TestCase(7, 1234)]
    [TestCase(-1234, -7)]
    [TestCase(-15, 203)]
    [TestCase(99, 101)]
    [TestCase(100, 100)]
    public void Whole_numbers_between_two_bounds_are_those_alone(int least, int most)
    {
        var grammar = new Grammar(IntegerRange.Of(least, most));
        for (var i = -1500; i <= 1500; i++)
        {
            Assert.That(grammar.Matches($"{i}"), Is.EqualTo(least <= i && i <= most), $"{i}");
        }

        Assert.That(grammar.Matches("-0"), Is.False);
        Assert.That(grammar.Matches("007"), Is.False);
    }

    [Test]
    public void Characters_of_a_set_are_written_in_utf8_and_in_json_as_they_are_elsewhere()
    {
        var set = CharSet.Of((0x41, 0x5A), (0x7F0, 0x900), (0xFFF0, 0x10010), (0x10FF00, 0x10FFFF));
        var (utf8, json) = (new Grammar(CharEncoding.Utf8(set)), new Grammar(CharEncoding.Json(set)));
        foreach (var code in new[] { 0x40, 0x41, 0x5A, 0x5B, 0x7EF, 0x7F0, 0x7FF, 0x800, 0x900, 0x901, 0xFFEF, 0xFFF0, 0xFFFF, 0x10000, 0x10010, 0x10011, 0x10FEFF, 0x10FF00, 0x10FFFF })
        {
            var text = char.ConvertFromUtf32(code);
            Assert.Multiple(() =>
            {
                Assert.That(utf8.Matches(text), Is.EqualTo(set.Contains(code)), $"{code:X}");
                Assert.That(json.Matches(text), Is.EqualTo(set.Contains(code)), $"{code:X}");
                Assert.That(json.Matches(string.Concat(text.Select(static c => $"\\u{(int)c:x4}"))), Is.EqualTo(set.Contains(code)), $"{code:X}");
                Assert.That(json.Matches(string.Concat(text.Select(static c => $"\\u{(int)c:X4}"))), Is.EqualTo(set.Contains(code)), $"{code:X}");
            });
        }
    }

    private static IEnumerable<string> Texts(string letters, int longest, Random random) =>
        Enumerable.Range(0, 3000).Select(_ => new string([.. Enumerable.Range(0, random.Next(longest + 1)).Select(_ => letters[random.Next(letters.Length)])])).Distinct();
}
