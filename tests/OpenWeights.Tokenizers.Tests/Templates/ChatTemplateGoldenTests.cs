using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Every template on every message list, against what jinja2 3.1 renders or raises.</summary>
public sealed class ChatTemplateGoldenTests
{
    private static readonly Dictionary<string, ChatTemplateErrorKind> Kinds = new()
    {
        ["TemplateError"] = ChatTemplateErrorKind.Raised,
        ["TypeError"] = ChatTemplateErrorKind.Type,
        ["SecurityError"] = ChatTemplateErrorKind.Security,
        ["UndefinedError"] = ChatTemplateErrorKind.Undefined,
    };

    [Test]
    public void There_are_reference_renderings_of_forty_published_templates()
    {
        _ = SharedFiles.RequireShared("goldens", "chat");
        Assert.That(TemplateFixtures.GoldenNames().Count(name => !name.StartsWith("own__", StringComparison.Ordinal)), Is.GreaterThanOrEqualTo(40));
    }

    [TestCaseSource(typeof(TemplateFixtures), nameof(TemplateFixtures.GoldenNames))]
    public void A_template_renders_and_raises_what_jinja2_does(string file)
    {
        var golden = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("goldens", "chat", file)))!.AsObject();
        var path = golden["template"]!.GetValue<string>()["fixtures/".Length..];
        var template = TemplateFixtures.ReadTemplate(path);
        foreach (var name in new[] { "bos_token", "eos_token" })
        {
            if (golden[name] is { } token)
            {
                template.SpecialTokens[name] = token.GetValue<string>();
            }
        }

        var cases = TemplateFixtures.Cases().ToDictionary(item => item["name"]!.GetValue<string>());
        var results = golden["results"]!.AsArray();
        Assert.That(results, Has.Count.EqualTo(cases.Count));
        Assert.Multiple(() =>
        {
            foreach (var result in results)
            {
                var name = result!["name"]!.GetValue<string>();
                var input = TemplateFixtures.Input(cases[name], template.SpecialTokens);
                if (result["rendered"] is { } rendered)
                {
                    Assert.That(() => template.Template.Render(input), Is.EqualTo(rendered.GetValue<string>()), name);
                    continue;
                }

                var error = Assert.Throws<ChatTemplateException>(() => template.Template.Render(input), name)!;
                Assert.That(error.Reason, Is.EqualTo(result["error"]!.GetValue<string>()), name);
                Assert.That(error.Kind, Is.EqualTo(Kinds[result["kind"]!.GetValue<string>()]), name);
                Assert.That(error.Message, Does.StartWith($"{template.Template.Name}, line "), name);
            }
        });
    }

    // The other samples of Mistral write JSON arguments with other white space than the template does.
    [TestCase("no_tools", "v1")]
    [TestCase("no_tools", "v2")]
    [TestCase("no_tools", "v3")]
    [TestCase("parallel_calls", "v3")]
    [TestCase("several_calls", "v2")]
    [TestCase("several_calls", "v3")]
    public void A_template_of_Mistral_writes_the_text_of_Mistrals_own_encoder(string sample, string version)
    {
        var folder = SharedFiles.Require("fixtures", "chat-golden", "mistral-common", sample);
        var template = TemplateFixtures.ReadTemplate($"chat-templates/mistral-common/{version}_spm.jinja");
        var request = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "sample.json")))!;
        var pieces = File.ReadAllText(Path.Combine(folder, $"text_{version}.txt"));

        var text = template.Template.Render(new ChatTemplateInput
        {
            Messages = request["messages"]!.AsArray(),
            Tools = request["tools"],
            SpecialTokens = template.SpecialTokens,
        });

        Assert.That(text, Is.EqualTo(pieces.Replace('▁', ' ').Replace("<0x0A>", "\n", StringComparison.Ordinal)));
    }
}
