using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Templates that run away, nest without end or write without end are stopped, soon and with a reason.</summary>
public sealed class TemplateLimitTests
{
    [TestCase("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "steps")]
    [TestCase("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "steps")]
    [TestCase("{{ range(1000000000) }}", "Range too big")]
    [TestCase("{{ 'a' * 1000000000 }}", "a text of more than")]
    [TestCase("{{ 'a' * 1000000000000000000000 }}", "a text of more than")]
    [TestCase("{{ [0] * 1000000000 }}", "steps")]
    [TestCase("{% set ns = namespace(x='ab') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "a text of more than")]
    [TestCase("{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "steps")]
    [TestCase("{% set big = 'x' * 60000000 %}{% for i in range(100) %}{% set y = big ~ i %}{% endfor %}", "characters")]
    [TestCase("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion depth")]
    [TestCase("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion depth")]
    [TestCase("{% set x = [1] %}{% for i in x recursive %}{{ loop(x) }}{% endfor %}", "recursion depth")]
    [TestCase("{{ 2 ** 100000 }}", "an integer of more than")]
    [TestCase("{% set ns = namespace(x=3) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}", "an integer of more than")]
    [TestCase("{{ '%1000000000d' % 1 }}", "a text of more than")]
    [TestCase("{{ '{:>1000000000}'.format(1) }}", "a text of more than")]
    [TestCase("{{ '%.1000000000f' % 1 }}", "digits")]
    [TestCase("{{ 'a'.center(1000000000) }}", "a text of more than")]
    [TestCase("{{ 'a\\nb'|indent(1000000000) }}", "a text of more than")]
    [TestCase("{{ ('a' * 100000)|replace('a', 'b' * 100000) }}", "a text of more than")]
    [TestCase("{{ ('a,' * 10000000).split(',') }}", "steps")]
    [TestCase("{{ [1]|batch(1000000000, 'x')|list }}", "steps")]
    [TestCase("{{ [1]|slice(1000000000)|list }}", "steps")]
    [TestCase("{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "recursion depth")]
    [TestCase("{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}", "recursion depth")]
    [TestCase("{% set a = namespace(x=[]) %}{% set b = namespace(x=[]) %}{% for i in range(100000) %}{% set a.x = [a.x] %}"
        + "{% set b.x = [b.x] %}{% endfor %}{{ a.x == b.x }}", "recursion depth")]
    public void A_template_that_runs_away_is_stopped(string template, string reason)
    {
        var watch = Stopwatch.StartNew();
        var error = Jinja.Fail(template);
        Assert.That(error.Kind, Is.EqualTo(ChatTemplateErrorKind.Limit));
        Assert.That(error.Reason, Does.Contain(reason));
        Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromSeconds(20)));
    }

    [TestCase("(", ")")]
    [TestCase("[", "]")]
    [TestCase("{'a':", "}")]
    [TestCase("not ", "")]
    [TestCase("-", "")]
    [TestCase("1 if 1 else ", "1")]
    [TestCase("", "|upper")]
    [TestCase("", ".a")]
    [TestCase("", " + 1")]
    [TestCase("", " ~ 1")]
    [TestCase("a[", "]")]
    [TestCase("f(", ")")]
    public void An_expression_that_nests_without_end_is_refused_or_answered_but_never_overflows(string open, string close)
    {
        foreach (var depth in new[] { 100, 1_000, 100_000 })
        {
            var template = "{{ " + Repeat(open, depth) + "1" + Repeat(close, depth) + " }}";
            try
            {
                _ = Jinja.Render(template);
            }
            catch (ChatTemplateException error)
            {
                Assert.That(error.Reason, Is.Not.Empty);
            }
        }
    }

    [Test]
    public void Blocks_that_nest_without_end_are_refused()
    {
        var error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(Repeat("{% if true %}", 100_000), "deep"))!;
        Assert.That(error.Kind, Is.EqualTo(ChatTemplateErrorKind.Syntax));
        Assert.That(error.Reason, Does.Contain("nest too deeply"));
    }

    [Test]
    public void A_template_that_runs_away_is_stopped_on_a_thread_with_little_stack()
    {
        ChatTemplateException? error = null;
        var thread = new Thread(
            () => error = Jinja.Fail("{% macro m(x) %}{{ [[[[m([x, [x]])]]]]|string|trim ~ 'a' }}{% endmacro %}{{ m(1) }}"), 256 * 1024);
        thread.Start();
        thread.Join();
        Assert.That(error!.Kind, Is.EqualTo(ChatTemplateErrorKind.Limit));
    }

    [Test]
    public void A_conversation_of_a_thousand_messages_with_megabytes_of_text_is_far_from_every_limit()
    {
        var published = TemplateFixtures.ReadTemplate("chat-templates/own/brackets.jinja");
        var messages = Enumerable.Range(0, 1_000).Select(i => (JsonNode)new JsonObject
        {
            ["role"] = i % 2 == 0 ? "user" : "assistant",
            ["content"] = new string('x', 5_000),
        });
        var text = published.Template.Render(new ChatTemplateInput { Messages = [.. messages], SpecialTokens = published.SpecialTokens });
        Assert.That(text, Has.Length.GreaterThan(5_000_000));
    }

    [TestCase("~")]
    [TestCase("+")]
    public void A_template_that_collects_its_output_in_a_variable_copies_it_once_and_not_for_each_message(string join)
    {
        var template = ChatTemplate.Parse(
            "{% set ns = namespace(out='') %}{% for m in messages %}{% set ns.out = ns.out JOIN '<' JOIN m.role JOIN '>' JOIN m.content JOIN '<end>' %}{% endfor %}{{ ns.out }}".Replace("JOIN", join, StringComparison.Ordinal),
            "collects");
        var messages = Enumerable.Range(0, 1_001).Select(i => (JsonNode)new JsonObject { ["role"] = i % 2 == 0 ? "user" : "assistant", ["content"] = new string((char)('a' + (i % 26)), 2_000) }).ToList();
        var expected = string.Concat(messages.Select(static m => $"<{m["role"]}>{m["content"]}<end>"));
        Assert.That(template.Render(new ChatTemplateInput { Messages = [.. messages.Select(static m => m.DeepClone())] }), Is.EqualTo(expected));
        var traced = template.RenderWithSpans(new ChatTemplateInput { Messages = [.. messages.Take(101)] });
        Assert.That(traced.AssistantSpans.Select(s => traced.Text[s.Start..s.End]), Is.EqualTo(messages.Take(101).Where(static (_, i) => i % 2 == 1).Select(static m => $"{m["content"]}<end>")));
    }

    [TestCase("~")]
    [TestCase("+")]
    public void A_long_text_that_two_others_begin_with_is_changed_by_neither(string join)
    {
        const string Template = "{% set a = 'x' * 300 JOIN 'y' %}{% set b = a JOIN '1' %}{% set c = a JOIN '2' %}{% set d = b JOIN b JOIN a %}{% set b2 = b JOIN '3' %}{{ [a, b, c, d, b2] | join('|') }}";
        var x = new string('x', 300);
        Assert.That(Jinja.Render(Template.Replace("JOIN", join, StringComparison.Ordinal)), Is.EqualTo($"{x}y|{x}y1|{x}y2|{x}y1{x}y1{x}y|{x}y13"));
    }

    private static string Repeat(string text, int count) => new StringBuilder().Insert(0, text, count).ToString();
}
