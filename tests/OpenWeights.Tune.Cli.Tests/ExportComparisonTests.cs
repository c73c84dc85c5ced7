using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Cli.Commands;
using OpenWeights.Tune.Export.Comparison;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What export says of the answers of what it wrote.</summary>
public sealed class ExportComparisonTests
{
    [Test]
    public void Another_template_and_other_end_tokens_are_shown_with_the_prompts_ids()
    {
        using var work = new TemporaryFolder();
        var source = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        foreach (var name in new[] { "first", "second" })
        {
            var folder = work.Folder(name);
            foreach (var file in Directory.GetFiles(source))
            {
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            }
        }

        var rows = work.Write("rows.jsonl", new JsonObject { ["messages"] = new JsonArray(Message("user", "May"), Message("assistant", "five")) }.ToJsonString());
        File.WriteAllText(work.At("first", "chat_template.jinja"), "{% for m in messages %}{{ m.content }}\n{% endfor %}");
        File.WriteAllText(work.At("second", "chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %} now{% endif %}");
        var settings = JsonNode.Parse(File.ReadAllText(work.At("second", "config.json")))!;
        settings["eos_token_id"] = 5;
        File.WriteAllText(work.At("second", "config.json"), settings.ToJsonString());
        File.Delete(work.At("second", "generation_config.json"));
        var comparison = ExportComparison.Of([rows], [], 10)!;
        foreach (var name in new[] { "first", "second" })
        {
            using var loaded = ModelLoader.Load(work.At(name), float32, CPU);
            var own = new OwnReader(loaded.Model, ModelFolder.Open(work.At(name)));
            if (name == "first")
            {
                comparison.Add("base", own);
            }
            else
            {
                comparison.AddWritten(own);
            }
        }

        var (output, error) = (Console.Out, Console.Error);
        using var told = new StringWriter();
        using var warned = new StringWriter();
        Console.SetOut(told);
        Console.SetError(warned);
        try
        {
            comparison.Write();
        }
        finally
        {
            Console.SetOut(output);
            Console.SetError(error);
        }

        Assert.That(told.ToString(), Does.Contain("compared on 1 rows").And.Match(@"base +\d+\.\d{4}  \d of 1"));
        Assert.That(warned.ToString(), Does.Contain("what was written makes other tokens of 1 of 1 prompts. The first one, from token").And.Match(@"what was written: \d+ .*now"));
        Assert.That(warned.ToString(), Does.Contain("ends its answers at the tokens 5"));
    }

    private static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
}
