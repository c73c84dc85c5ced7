using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>What is passed to a template, and how.</summary>
public sealed class ChatTemplateTests
{
    private static JsonArray Hello => [new JsonObject { ["role"] = "user", ["content"] = "Hello" }];

    [Test]
    public void A_template_sees_what_transformers_passes()
    {
        var template = ChatTemplate.Parse(
            "{{ messages|tojson }}{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token is defined }}{{ extra.x }}", "t");
        var text = template.Render(new ChatTemplateInput
        {
            Messages = Hello,
            AddGenerationPrompt = true,
            SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<s>" },
            Variables = new JsonObject { ["extra"] = new JsonObject { ["x"] = 1 } },
        });
        Assert.That(text, Is.EqualTo("""[{"role": "user", "content": "Hello"}]NoneNoneTrue<s>False1"""));
    }

    [Test]
    public void A_variable_goes_before_a_special_token_of_its_name()
    {
        var text = ChatTemplate.Parse("{{ bos_token }}", "t").Render(new ChatTemplateInput
        {
            Messages = [],
            SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<s>" },
            Variables = new JsonObject { ["bos_token"] = "other" },
        });
        Assert.That(text, Is.EqualTo("other"));
    }

    [Test]
    public void The_clock_is_asked_where_no_time_is_given()
    {
        var text = ChatTemplate.Parse("{{ strftime_now('%Y-%m-%d %H') }}", "t")
            .Render(new ChatTemplateInput { Messages = [], Clock = new FixedClock() });
        Assert.That(text, Is.EqualTo("2001-02-03 04"));
    }

    [Test]
    public void A_template_is_parsed_once_and_renders_on_many_threads_at_once()
    {
        var published = TemplateFixtures.ReadTemplate("chat-templates/own/chatml-tools.jinja");
        var inputs = TemplateFixtures.Cases()
            .Where(item => item["name"]!.GetValue<string>() is "two_turns_complete" or "tool_call_dict_args" or "parallel_tool_calls")
            .Select(item => TemplateFixtures.Input(item, published.SpecialTokens)).ToList();
        var expected = inputs.ConvertAll(published.Template.Render);
        var wrong = 0;
        _ = Parallel.For(0, 2_000, i =>
        {
            if (published.Template.Render(inputs[i % inputs.Count]) != expected[i % inputs.Count])
            {
                _ = Interlocked.Increment(ref wrong);
            }
        });
        Assert.That(wrong, Is.Zero);
    }

    [Test]
    public void Half_of_a_surrogate_pair_in_a_message_is_refused_with_its_place()
    {
        var messages = JsonNode.Parse("""[{"role": "user", "content": "a\ud83d"}]""")!.AsArray();
        var error = Assert.Throws<InvalidDataException>(() =>
            ChatTemplate.Parse("{{ messages[0].content }}", "t").Render(new ChatTemplateInput { Messages = messages }))!;
        Assert.That(error.Message, Does.Contain("content").And.Contain("surrogate"));
    }

    [Test]
    public void Integers_and_floats_of_messages_stay_what_they_are()
    {
        var messages = JsonNode.Parse("""[{"a": 1, "b": 1.0, "c": 1e2, "d": 12345678901234567890, "e": -0.0, "f": 1E400}]""")!.AsArray();
        var text = ChatTemplate.Parse("{{ messages[0] }}", "t").Render(new ChatTemplateInput { Messages = messages });
        Assert.That(text, Is.EqualTo("{'a': 1, 'b': 1.0, 'c': 100.0, 'd': 12345678901234567890, 'e': -0.0, 'f': inf}"));
    }

    [Test]
    public void An_exception_tells_apart_what_the_template_refused_and_what_it_could_not_do()
    {
        var refused = Jinja.Fail("{{ raise_exception('System role not supported') }}");
        var failed = Jinja.Fail("{{ messages[0]['role'] }}{{ messages[0].x }}");
        Assert.Multiple(() =>
        {
            Assert.That((refused.Kind, refused.Reason), Is.EqualTo((ChatTemplateErrorKind.Raised, "System role not supported")));
            Assert.That((failed.Kind, failed.Reason), Is.EqualTo((ChatTemplateErrorKind.Undefined, "list object has no element 0")));
            Assert.That(refused.Message, Is.EqualTo("test, line 1: System role not supported"));
            Assert.That(refused.TemplateName, Is.EqualTo("test"));
        });
    }

    private sealed class FixedClock : TimeProvider
    {
        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => new(2001, 2, 3, 4, 5, 6, TimeSpan.Zero);
    }
}
