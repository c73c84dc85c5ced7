using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tune.Cli.Commands;
using OpenWeights.Tune.Comparison;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What export says of the answers of what it wrote.</summary>
public sealed class ExportComparisonTests
{
    private const string Template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private TemporaryFolder _work = null!;

    [SetUp]
    public void Make() => _work = new TemporaryFolder();

    [TearDown]
    public void Clean() => _work.Dispose();

    [Test]
    public void Another_template_and_other_end_tokens_are_shown_with_the_prompts_ids()
    {
        var (first, second) = (Model("first", Template), Model("second", "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %} now{% endif %}"));
        var settings = JsonNode.Parse(File.ReadAllText(Path.Combine(second, "config.json")))!;
        settings["eos_token_id"] = 5;
        File.WriteAllText(Path.Combine(second, "config.json"), settings.ToJsonString());
        File.Delete(Path.Combine(second, "generation_config.json"));
        using var written = ModelLoader.Load(second, float32, CPU);
        var (told, warned, _) = Compare(first, new OwnReader(written.Model, written.Folder), Chat("May", "five"));
        Assert.That(told, Does.Contain("compared on 1 rows").And.Match(@"base +\d+\.\d{4}  \d of 1"));
        Assert.That(warned, Does.Contain("what was written makes other tokens of 1 of 1 prompts. The first one, from token").And.Match(@"what was written: \d+ .*now"));
        Assert.That(warned, Does.Contain("ends its answers at the tokens 5"));
    }

    [Test]
    public void Llama_cpp_reads_a_file_with_our_loss_our_answers_and_our_prompts()
    {
        var (folder, file) = Exported("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
        using var reader = Reader(file);
        var (told, warned, results) = Compare(folder, reader, Chat("May", "five"), Chat("January – 3 🎉?", "the third"));
        Assert.That(warned, Is.Empty);
        Assert.That(told, Does.Match(@"what was written .* llama\.cpp\n").And.Not.Contain("list of chat templates"));
        Assert.That(results[1]!["loss"]!.GetValue<double>(), Is.EqualTo(results[0]!["loss"]!.GetValue<double>()).Within(1e-4));
        Assert.That((results[1]!["exact"]!.GetValue<int>(), results[1]!["asked"]!.GetValue<int>()), Is.EqualTo((results[0]!["exact"]!.GetValue<int>(), 2)));
    }

    [TestCase("template", @"\d+", "now")]
    [TestCase("bos", "0", "<|endoftext|>")]
    public void A_damaged_file_is_seen_by_its_prompts_ids_in_llama_cpp(string damage, string token, string text)
    {
        var (folder, file) = Exported(Template);
        Rewrite(file, _work["damaged.gguf"], metadata => damage == "bos"
            ? [("tokenizer.ggml.bos_token_id", 0u), ("tokenizer.ggml.add_bos_token", true)]
            : [("tokenizer.chat_template", metadata.Text("tokenizer.chat_template")!.Replace("\n", " now", StringComparison.Ordinal))]);
        using var reader = Reader(_work["damaged.gguf"]);
        var (told, warned, _) = Compare(folder, reader, Chat("May", "five"));
        Assert.That(warned, Does.Match($@"llama\.cpp, which reads what was written, makes other tokens of 1 of 1 prompts\. The first one, from token {token} on:\n  base: .*\n  what was written: .*{System.Text.RegularExpressions.Regex.Escape(text)}"));
        Assert.That(told, Does.Contain("llama.cpp's own list of chat templates has none for this file's"));
    }

    [Test]
    public void A_file_that_llama_cpp_cannot_read_is_said_to_be_so()
    {
        RequireLlamaCpp();
        GgufWriter.Write(_work["strange.gguf"], new GgufMetadata("new") { { "general.architecture", "nosuch" } }, []);
        Assert.That(LlamaCppReader.TryOpen(_work["strange.gguf"], null, out var why), Is.Null);
        Assert.That(why, Does.Contain("strange.gguf").And.Contain("nosuch"));
    }

    [Test]
    public void Rows_that_are_too_long_are_counted_and_the_others_compared()
    {
        var folder = Model("model", Template);
        using var written = ModelLoader.Load(folder, float32, CPU);
        var longRow = Chat(string.Concat(Enumerable.Repeat("May 5 ", 200)), "five");
        var (told, warned, results) = Compare(folder, new OwnReader(written.Model, written.Folder), longRow, Chat("May", "five"), longRow, """{"messages": [{"role": "user", "content": "May"}]}""");
        Assert.That(told, Does.Contain("compared on 1 rows").And.Match(@"base +\d+\.\d{4}  \d of 1 "));
        Assert.That(told, Does.Match(@"2 rows are left out: longer than the model's context of 256 tokens \(max_position_embeddings in its config\.json\) \(.*rows\.jsonl.*1 has [\d,]+\)"));
        Assert.That(told, Does.Match(@"1 row is left out: there is no assistant message"));
        Assert.That(warned, Is.Empty);
        Assert.That(results[0]!["left_out"]!.AsArray(), Has.Count.EqualTo(3));

        var comparison = ExportComparison.Of([_work.Write("long.jsonl", longRow)], [], 10)!;
        comparison.Add("base", new OwnReader(written.Model, written.Folder));
        Assert.That(comparison.HasRows, Is.False);
        Assert.That(Printed(comparison).Warned, Does.Contain("answers are not compared").And.Contain("1 row is left out: longer than the model's context of 256 tokens"));
    }

    private static string Chat(string question, string answer) => new JsonObject { ["messages"] = new JsonArray(Message("user", question), Message("assistant", answer)) }.ToJsonString();

    private static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };

    private static void RequireLlamaCpp()
    {
        if (LlamaLibrary.Problem is { } problem)
        {
            Assert.Ignore($"llama.cpp is not here: {problem}");
        }
    }

    private static LlamaCppReader Reader(string file) => LlamaCppReader.TryOpen(file, null, out var why) ?? throw new InvalidDataException(why);

    private static void Rewrite(string source, string target, Func<GgufMetadata, IReadOnlyList<(string Key, object Value)>> changes)
    {
        using var file = GgufFile.Open(source);
        var changed = changes(file.Metadata);
        var metadata = new GgufMetadata(target);
        foreach (var (key, value) in file.Metadata.Where(m => !changed.Any(c => c.Key == m.Key)))
        {
            metadata.Add(key, value);
        }

        foreach (var (key, value) in changed)
        {
            metadata.Add(key, value);
        }

        GgufWriter.Write(target, metadata, [.. file.Tensors.Select(t => new GgufTensorToWrite(t.Name, t.Type, t.Shape, stream =>
        {
            var bytes = new byte[t.ByteLength];
            file.ReadBytes(t, 0, bytes);
            stream.Write(bytes);
        }))]);
    }

    private (string Told, string Warned, JsonArray Results) Compare(string folder, IModelReader written, params string[] rows)
    {
        var comparison = ExportComparison.Of([_work.Write("rows.jsonl", string.Join('\n', rows))], [], 10)!;
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        comparison.Add("base", new OwnReader(loaded.Model, loaded.Folder));
        _ = comparison.AddWritten(written);
        var (told, warned) = Printed(comparison);
        return (told, warned, comparison.Json()["results"]!.AsArray());
    }

    private static (string Told, string Warned) Printed(ExportComparison comparison)
    {
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

        return (told.ToString(), warned.ToString());
    }

    // The quickstart's model with a template.
    private string Model(string name, string template)
    {
        var folder = _work.Folder(name);
        foreach (var file in Directory.GetFiles(s_base))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        File.WriteAllText(Path.Combine(folder, "chat_template.jinja"), template);
        return folder;
    }

    private (string Folder, string File) Exported(string template)
    {
        RequireLlamaCpp();
        var folder = Model("model", template);
        _ = GgufExport.Write(ModelFolder.Open(folder), null, _work["model.gguf"], GgufPreset.Of("f32"));
        return (folder, _work["model.gguf"]);
    }
}
