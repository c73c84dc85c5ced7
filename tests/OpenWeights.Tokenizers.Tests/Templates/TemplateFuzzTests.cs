using System.Diagnostics;
using System.Text.RegularExpressions;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Broken templates and odd conversations end in text or in the one exception type, in bounded time.</summary>
public sealed partial class TemplateFuzzTests
{
    private static readonly string[] Snippets =
    [
        "{% if x %}", "{% endif %}", "{% else %}", "{% for m in messages %}", "{% endfor %}", "|trim", "|tojson", "| length", " not ",
        " is defined", "[0]", "[1:]", ".content", "'a'", "{{ 1 }}", "-%}", "{%-", "{% set x = 1 %}", " + ", " ~ ", "(", ")", "loop.index",
        "none", "|join(',')", ".items()", "|list", "{% break %}", "{% generation %}", "{% endgeneration %}", "{#", "#}", "\n", "  ",
        "namespace()", "|sort", "range(99999)", "*", "**", "\0", "\ud800", "é", "{% macro m() %}", "{% endmacro %}", "{{ m() }}", "%", "\\",
    ];

    private static readonly string[] Values =
    [
        "null", "true", "0", "-1", "2.5", "\"\"", "\"x\"", "\"a b\\n c\"", "[]", "[\"a\"]", "{}", "{\"a\": 1}", "\"assistant\"", "\"tool\"", "1e400",
    ];

    [Test]
    public void A_mutated_template_renders_or_fails_with_a_template_exception_soon()
    {
        var random = new Random(20250704);
        var sources = TemplateFixtures.TemplatePaths().Select(TemplateFixtures.ReadTemplate).ToList();
        var cases = TemplateFixtures.Cases();
        var (rendered, failed) = (0, 0);
        for (var round = 0; round < 1_000; round++)
        {
            var published = sources[random.Next(sources.Count)];
            var source = Mutate(random, published.Source);
            var input = TemplateFixtures.Input(cases[random.Next(cases.Count)], published.SpecialTokens);
            var watch = Stopwatch.StartNew();
            try
            {
                var template = ChatTemplate.Parse(source, "mutated");
                _ = random.Next(2) == 0 ? template.Render(input) : template.RenderWithSpans(input).Text;
                rendered++;
            }
            catch (ChatTemplateException)
            {
                failed++;
            }
            catch (Exception other)
            {
                Assert.Fail($"{other}\n{source}");
            }

            Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromSeconds(30)), source);
        }

        Assert.That(rendered, Is.GreaterThan(80), "the mutations must not all be fatal");
        Assert.That(failed, Is.GreaterThan(80), "the mutations must not all be harmless");
    }

    [Test]
    public void An_odd_conversation_renders_or_fails_with_a_template_exception()
    {
        var random = new Random(7);
        var cases = TemplateFixtures.Cases();
        foreach (var path in TemplateFixtures.TemplatePaths())
        {
            var published = TemplateFixtures.ReadTemplate(path);
            for (var round = 0; round < 40; round++)
            {
                var item = cases[random.Next(cases.Count)];
                var json = item["messages"]!.ToJsonString();
                for (var change = random.Next(1, 4); change > 0; change--)
                {
                    var strings = JsonString().Matches(json);
                    if (strings.Count > 0)
                    {
                        var chosen = strings[random.Next(strings.Count)];
                        var isKey = json.AsSpan(chosen.Index + chosen.Length).TrimStart().StartsWith(":");
                        json = json[..chosen.Index] + (isKey ? "\"k" + random.Next(3) + "\"" : Values[random.Next(Values.Length)])
                            + json[(chosen.Index + chosen.Length)..];
                    }
                }

                var messages = System.Text.Json.Nodes.JsonNode.Parse(json)!.AsArray();
                try
                {
                    _ = published.Template.RenderWithSpans(new ChatTemplateInput { Messages = messages, SpecialTokens = published.SpecialTokens });
                }
                catch (Exception error) when (error is ChatTemplateException or InvalidDataException)
                {
                    Assert.That(error.Message, Is.Not.Empty);
                }
                catch (Exception other)
                {
                    Assert.Fail($"{path}: {json}\n{other}");
                }
            }
        }
    }

    private static string Mutate(Random random, string source)
    {
        var tokens = TemplateToken().Matches(source).Select(match => match.Value).ToList();
        for (var change = random.Next(1, 6); change > 0; change--)
        {
            var (at, other) = (random.Next(tokens.Count), random.Next(tokens.Count));
            switch (random.Next(5))
            {
                case 0:
                    tokens.RemoveAt(at);
                    break;
                case 1:
                    tokens.Insert(at, tokens[other]);
                    break;
                case 2:
                    tokens[at] = tokens[other];
                    break;
                case 3:
                    tokens.Insert(at, Snippets[random.Next(Snippets.Length)]);
                    break;
                default:
                    (tokens[at], tokens[other]) = (tokens[other], tokens[at]);
                    break;
            }
        }

        return string.Concat(tokens);
    }

    [GeneratedRegex("""\{%[-+]?|[-+]?%\}|\{\{[-+]?|-?\}\}|\{#|#\}|'[^'\n]*'|"[^"\n]*"|\w+|\s+|.""", RegexOptions.Singleline)]
    private static partial Regex TemplateToken();

    [GeneratedRegex("""
        "(?:[^"\\]|\\.)*"
        """, RegexOptions.IgnorePatternWhitespace)]
    private static partial Regex JsonString();
}
