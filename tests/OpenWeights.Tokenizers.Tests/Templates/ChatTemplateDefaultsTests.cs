using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Values that are written into a template do what the same values passed at rendering do.</summary>
public sealed class ChatTemplateDefaultsTests
{
    private const string Values = """{"enable_thinking": false, "reasoning_effort": "low", "is_training": true, "training_prompt": true, "preserve_thinking": null}""";

    [TestCaseSource(typeof(TemplateFixtures), nameof(TemplateFixtures.TemplatePaths))]
    public void A_published_template_renders_as_if_they_were_passed(string path)
    {
        var template = TemplateFixtures.ReadTemplate(path);
        var set = ChatTemplate.Parse(ChatTemplateDefaults.Set(template.Source, JsonNode.Parse(Values)!.AsObject()), path);
        foreach (var item in TemplateFixtures.Cases().Where(static c => c["kwargs"] is not JsonObject { Count: > 0 }))
        {
            var passed = item.DeepClone().AsObject();
            passed["kwargs"] = JsonNode.Parse(Values);
            Assert.That(Render(set, TemplateFixtures.Input(item, template.SpecialTokens)), Is.EqualTo(Render(template.Template, TemplateFixtures.Input(passed, template.SpecialTokens))), item["name"]!.ToString());
        }
    }

    [Test]
    public void A_value_that_is_passed_goes_before_one_that_is_written()
    {
        var inner = ChatTemplateDefaults.Set("{{ mood }} {{ rest }}", new JsonObject { ["mood"] = "inner", ["rest"] = new JsonArray(1, "a'b", new JsonObject { ["k"] = 1.5 }) });
        Assert.That(Render(inner, null), Is.EqualTo("inner [1, \"a'b\", {'k': 1.5}]"));
        Assert.That(Render(inner, new JsonObject { ["mood"] = "passed" }), Does.StartWith("passed "));
        Assert.That(Render(ChatTemplateDefaults.Set(inner, new JsonObject { ["mood"] = "outer" }), null), Does.StartWith("outer "));
    }

    [TestCase("\n  a", "\n  a")]
    [TestCase("a\n", "a")]
    public void The_templates_own_white_space_stays(string template, string rendered) =>
        Assert.That(Render(ChatTemplateDefaults.Set(template, new JsonObject { ["x"] = 1 }), null), Is.EqualTo(rendered));

    [TestCase(false, "plain 1")]
    [TestCase(true, "tools 1")]
    public void Of_two_templates_each_is_used_for_its_conversations(bool withTools, string rendered)
    {
        var joined = ChatTemplateDefaults.Set(ChatTemplateDefaults.Join("plain {{ x }}\n", "tools {{ x }}\n"), new JsonObject { ["x"] = 1 });
        var input = new ChatTemplateInput { Messages = [], Tools = withTools ? new JsonArray(new JsonObject()) : null };
        Assert.That(ChatTemplate.Parse(joined, "joined").Render(input), Is.EqualTo(rendered));
    }

    [TestCase("messages")]
    [TestCase("eos_token")]
    [TestCase("a b")]
    [TestCase("1a")]
    [TestCase("")]
    [TestCase("not")]
    public void What_is_not_the_templates_to_set_is_refused(string name) =>
        Assert.That(() => ChatTemplateDefaults.Set("x", new JsonObject { [name] = 1 }), Throws.ArgumentException);

    private static string Render(string template, JsonObject? variables) =>
        ChatTemplate.Parse(template, "a template").Render(new ChatTemplateInput { Messages = [], Variables = variables });

    private static string Render(ChatTemplate template, ChatTemplateInput input)
    {
        try
        {
            return template.Render(input);
        }
        catch (ChatTemplateException e)
        {
            return e.Reason;
        }
    }
}
