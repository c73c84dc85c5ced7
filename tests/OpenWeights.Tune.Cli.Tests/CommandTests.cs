using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The other commands, from the outside.</summary>
public sealed class CommandTests
{
    [Test]
    public void A_wrong_command_ends_with_1_and_help_is_offered()
    {
        var owt = Owt.Run(".", 1, "trian");
        Assert.That(owt.Error, Does.Contain("trian").And.Contains("--help"));
        Assert.That(Owt.Run(".", 1, "generate", "--model", "x", "--prompt", "y", "--top-p", "2").Error, Does.Contain("--top-p must be above 0, and at most 1"));
        Assert.That(Owt.Run(".", 1, "bench", "train", "--rank", "x").Error, Does.Contain("--rank: 'x' is not a whole number").And.Contains("`owt bench train --help`"));
    }

    [Test]
    public void Every_command_has_help()
    {
        var help = Owt.Run(".", 0, "--help").Output;
        foreach (var command in new[] { "train", "validate", "data", "generate", "chat", "download", "score", "evaluate", "tokenize", "render", "export", "inspect", "init", "doctor" })
        {
            Assert.That(help, Does.Contain($"  {command}"));
            Assert.That(Owt.Run(".", 0, command, "--help").Output, Does.Contain("Usage"), command);
        }
    }

    [Test]
    public void Generation_is_measured_at_each_batch_size()
    {
        string[] shape = ["--hidden-size", "32", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--intermediate-size", "48", "--vocab-size", "64"];
        var lines = Owt.Run(".", 0, ["bench", "generate", .. shape, "--prompt-len", "12", "--new-tokens", "4", "--steps", "1", "--batch-size", "1", "3", "--json"]).Json;
        Assert.That(lines.Select(static l => l["batch_size"]!.GetValue<int>()), Is.EqualTo(new[] { 1, 3 }));
        Assert.That(lines.SelectMany(static l => new[] { l["prompt_tokens_per_second"]!, l["decode_tokens_per_second"]! }).Select(static v => v.GetValue<double>()), Is.All.Positive);
    }

    [Test]
    public void A_missing_model_ends_with_2()
    {
        var owt = Owt.Run(".", 2, "generate", "--model", "no-such-folder", "--prompt", "x");
        Assert.That(owt.Error, Does.Contain("no-such-folder"));
    }

    [Test]
    public void Greedy_text_is_the_reference_story()
    {
        var model = SharedFiles.Require("fixtures", "weights", "stories260K-hf");
        var expected = File.ReadAllText(SharedFiles.Require("fixtures", "weights", "stories260K", "expected-greedy-200.txt"));
        var json = Owt.Run(".", 0, "generate", "--model", model, "--prompt", "", "--max-new-tokens", "200", "--json").Json[0];
        Assert.That(json["text"]!.ToString(), Is.EqualTo(expected));
        Assert.That(json["input_ids"]!.ToJsonString(), Is.EqualTo("[1]"));
        Assert.That(json["finish_reason"]!.ToString(), Is.EqualTo("length"));
        var stopped = Owt.Run(".", 0, "generate", "--model", model, "--prompt", "", "--max-new-tokens", "200", "--stop", " Lily").Output;
        Assert.That(stopped, Is.EqualTo("Once upon a time, there was a little girl named\n"));
    }

    [Test]
    public void Scores_and_logits_are_the_references()
    {
        var golden = SharedFiles.Require("goldens", "reference", "llama");
        var run = JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "golden.json")))!["runs"]!["full"]!;
        using var work = new TemporaryFolder();
        var rows = run["input_ids"]!.AsArray();
        File.WriteAllLines(work.At("input.jsonl"), rows.Select(static r => $"{{\"input_ids\": {r!.ToJsonString()}}}"));
        var lines = Owt.Run(work.Root, 0, "score", "--model", golden, "--input", "input.jsonl", "--logits", "logits.safetensors").Json;
        using var expected = SafetensorsFile.Open(Path.Combine(golden, "golden.safetensors"));
        using var actual = SafetensorsFile.Open(work.At("logits.safetensors"));
        var reference = Floats(expected.ReadBytes("full.logits"));
        var logits = Floats(actual.ReadBytes("0")).Concat(Floats(actual.ReadBytes("1"))).ToArray();
        Assert.That(logits, Is.EqualTo(reference).Within(3e-5f));

        var (tokens, vocabulary) = (rows[0]!.AsArray().Count, reference.Length / 2 / rows[0]!.AsArray().Count);
        var logprobs = lines[1]["logprobs"]!.AsArray();
        Assert.That(logprobs[0], Is.Null);
        for (var i = 1; i < tokens; i++)
        {
            var scores = reference.AsSpan((tokens + i - 1) * vocabulary, vocabulary).ToArray();
            var logSum = Math.Log(scores.Sum(static s => Math.Exp(s)));
            Assert.That(logprobs[i]!.GetValue<double>(), Is.EqualTo(scores[rows[1]![i]!.GetValue<int>()] - logSum).Within(1e-4));
        }

        Assert.That(lines[1]["sum_logprob"]!.GetValue<double>(), Is.EqualTo(logprobs.Skip(1).Sum(static l => l!.GetValue<double>())).Within(1e-9));
    }

    [Test]
    public void An_exported_merged_model_gives_PEFTs_merged_logits()
    {
        var golden = SharedFiles.Require("goldens", "reference", "lora_all_linear");
        var json = JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "golden.json")))!;
        using var work = new TemporaryFolder();
        var export = Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", Path.Combine(golden, json["base"]!.ToString()), "--adapter", golden, "--output", "merged", "--max-shard-size", "100KB");
        Assert.That(export.Output, Does.Contain("read back and run"));
        Assert.That(File.Exists(work.At("merged", "model.safetensors.index.json")), "sharded");
        File.WriteAllLines(work.At("input.jsonl"), json["runs"]!["full"]!["input_ids"]!.AsArray().Select(static r => $"{{\"input_ids\": {r!.ToJsonString()}}}"));
        Owt.Run(work.Root, 0, "score", "--model", "merged", "--input", "input.jsonl", "--logits", "logits.safetensors");
        using var expected = SafetensorsFile.Open(Path.Combine(golden, "golden.safetensors"));
        using var actual = SafetensorsFile.Open(work.At("logits.safetensors"));
        var logits = Floats(actual.ReadBytes("0")).Concat(Floats(actual.ReadBytes("1"))).ToArray();
        Assert.That(logits, Is.EqualTo(Floats(expected.ReadBytes("merged.logits"))).Within(3e-5f));
    }

    [Test]
    public void An_exported_adapter_is_read_back_and_is_the_same()
    {
        var golden = SharedFiles.Require("goldens", "reference", "lora_qv");
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "export", "--format", "peft", "--model", SharedFiles.Require("goldens", "reference", "llama"), "--adapter", golden, "--output", "adapter");
        Assert.That(File.ReadAllBytes(work.At("adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(golden, "adapter_model.safetensors"))));
        Assert.That(Owt.Run(work.Root, 1, "export", "--format", "peft", "--model", SharedFiles.Require("goldens", "reference", "llama"), "--adapter", golden, "--output", "adapter").Error, Does.Contain("already exists"));
    }

    [Test]
    public void Several_adapters_are_added_up_by_their_weights()
    {
        var reference = SharedFiles.Require("goldens", "reference", "llama");
        var (a, b) = (SharedFiles.Require("goldens", "reference", "lora_qv"), SharedFiles.Require("goldens", "reference", "lora_dora"));
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("input.jsonl"), "{\"input_ids\": [1, 50, 7, 200, 31]}\n");
        string[] mix = ["--adapter", $"{a}=0.7", "--adapter", $"{b}=0.3"];
        var export = Owt.Run(work.Root, 0, ["export", "--format", "merged", "--model", reference, .. mix, "--output", "merged"]);
        Assert.That(export.Output, Does.Contain("nats a token"));
        var together = Sum(["--model", reference, .. mix]);
        Assert.That(Sum(["--model", "merged"]), Is.EqualTo(together).Within(1e-4));
        Assert.That(Sum(["--model", reference, "--adapter", a]), Is.Not.EqualTo(together).Within(1e-2));
        Assert.That(Owt.Run(work.Root, 1, ["export", "--format", "peft", "--model", reference, .. mix, "--output", "adapter"]).Error, Does.Contain("a single unscaled adapter"));
        Assert.That(Owt.Run(work.Root, 1, "score", "--model", reference, "--adapter", a, "--adapter", $"{a}=2", "--input", "input.jsonl").Error, Does.Contain("given twice"));

        double Sum(string[] arguments) => Owt.Run(work.Root, 0, ["score", .. arguments, "--input", "input.jsonl"]).Json[0]["sum_logprob"]!.GetValue<double>();
    }

    [Test]
    public void A_quantised_base_scores_like_itself_and_merges_into_its_own_values()
    {
        var model = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("input.jsonl"), "{\"text\": \"Write four hundred and forty in digits. Which month is December?\"}\n");
        double Sum(params string[] arguments) => Owt.Run(work.Root, 0, ["score", "--model", model, "--input", "input.jsonl", .. arguments]).Json[0]["sum_logprob"]!.GetValue<double>();
        var plain = Sum();
        Assert.That(Sum("--quantization", "int8"), Is.EqualTo(plain).Within(0.3).And.Not.EqualTo(plain));
        Assert.That(Sum("--quantization", "nf4"), Is.EqualTo(plain).Within(5).And.Not.EqualTo(plain));
    }

    [Test]
    public void A_server_does_not_start_without_the_keys_that_were_named()
    {
        using var work = new TemporaryFolder();
        var model = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        Assert.That(Owt.Run(work.Root, 2, "serve", "--model", model, "--api-key-file", "nothing.txt").Error, Does.Contain("nothing.txt does not exist").And.Contains("a key on each line"));
        File.WriteAllText(work.At("empty.txt"), "\n  \n");
        Assert.That(Owt.Run(work.Root, 2, "serve", "--model", model, "--api-key-file", "empty.txt").Error, Does.Contain("empty.txt has no key"));
        Assert.That(Owt.Run(work.Root, 1, "serve", "--model", model, "--host", "0.0.0.0").Error, Does.Contain("--api-key-file"));
    }

    [Test]
    public void An_adapter_is_described_with_what_servers_do_not_take()
    {
        var dora = Owt.Run(".", 0, "inspect", SharedFiles.Require("goldens", "reference", "lora_dora")).Output;
        Assert.That(dora, Does.Contain("use_dora").And.Contains("8 (21 modules)").And.Contains("../llama").And.Contains("warning            use_dora: neither vLLM nor llama.cpp"));
        var saved = Owt.Run(".", 0, "inspect", "--json", SharedFiles.Require("goldens", "reference", "lora_modules_to_save")).Json[0];
        Assert.That(saved["warnings"]!.AsArray().Single()!.ToString(), Does.StartWith("modules_to_save"));
        Assert.That(saved["parameters"]!.GetValue<long>(), Is.EqualTo(38144), "PEFT's own count");
        Assert.That(Owt.Run(".", 0, "inspect", "--json", SharedFiles.Require("goldens", "reference", "lora_qv")).Json[0]["warnings"]!.AsArray(), Is.Empty);
        using var work = new TemporaryFolder();
        foreach (var file in Directory.EnumerateFiles(SharedFiles.Require("goldens", "reference", "lora_qv"), "adapter_*"))
        {
            File.WriteAllBytes(work.At(Path.GetFileName(file)), File.ReadAllBytes(file));
        }

        File.WriteAllText(work.At("adapter_config.json"), File.ReadAllText(work.At("adapter_config.json")).Replace("\"use_rslora\": false", "\"use_rslora\": true", StringComparison.Ordinal));
        Assert.That(Owt.Run(work.Root, 0, "inspect", "--json", ".").Json[0]["warnings"]!.ToJsonString(), Does.Contain("rslora").And.Contain("llama.cpp"));
    }

    [Test]
    public void Tokens_are_Hugging_Faces()
    {
        var golden = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("goldens", "tokenizer", "own__pieces.json")))!["cases"]!.AsArray();
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("texts.json"), new JsonArray([.. golden.Select(static c => (JsonNode)c!["text"]!.GetValue<string>())]).ToJsonString());
        var lines = Owt.Run(work.Root, 0, "tokenize", "--tokenizer", SharedFiles.Require("fixtures", "tokenizers", "own", "pieces"), "--input", "texts.json").Json;
        foreach (var (expected, actual) in golden.Zip(lines))
        {
            foreach (var key in new[] { "ids", "ids_with_special", "decoded", "decoded_skip_special" })
            {
                Assert.That(actual[key]!.ToJsonString(), Is.EqualTo(expected![key]!.ToJsonString()), $"{key} of {expected["text"]!.ToJsonString()}");
            }
        }
    }

    [Test]
    public void A_text_with_half_a_character_is_answered_and_offsets_count_characters()
    {
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("texts.json"), """["a\\ud83d\ud83d", "\ud83d\udc4d b"]""");
        var lines = Owt.Run(work.Root, 0, "tokenize", "--tokenizer", SharedFiles.Require("fixtures", "tokenizers", "own", "bytes-qwen-2", "tokenizer.json"), "--input", "texts.json", "--offsets").Json;
        Assert.That(lines[0]["decoded"]!.ToString(), Is.EqualTo("a\\ud83d\ufffd"));
        Assert.That(lines[1]["decoded"]!.ToString(), Is.EqualTo("\U0001F44D b"));
        Assert.That(lines[1]["offsets"]!.AsArray()[^1]!.ToJsonString(), Is.EqualTo("[1,3]"));
    }

    [TestCase("tokenizers__qwen2.5__tokenizer_config.json", "--tokenizer", "tokenizers/qwen2.5")]
    [TestCase("tokenizers__qwen2.5__tokenizer_config.json", "--tokenizer", "tokenizers/qwen2.5/tokenizer_config.json")]
    [TestCase("other__gpt-oss.json", "--template", "chat-templates/other/gpt-oss.jinja")]
    [TestCase("own__headers.json", "--template", "chat-templates/own/headers.jinja")]
    [TestCase("own__chatml-tools.json", "--template", "chat-templates/own/chatml-tools.jinja")]
    public void Conversations_are_rendered_as_jinja2_renders_them(string golden, string option, string path)
    {
        var expected = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("goldens", "chat", golden)))!.AsObject();
        string[] tokens = option == "--template" ? ["--bos", expected["bos_token"]!.ToString(), "--eos", expected["eos_token"]!.ToString()] : [];
        using var work = new TemporaryFolder();
        var lines = Owt.Run(work.Root, 0, ["render", option, SharedFiles.Require(["fixtures", .. path.Split('/')]), "--input", SharedFiles.Require("goldens", "chat", "cases.json"), "--now", expected["now"]!.ToString(), .. tokens]).Json;
        Assert.That(lines, Has.Count.EqualTo(expected["results"]!.AsArray().Count));
        foreach (var (result, line) in expected["results"]!.AsArray().Zip(lines))
        {
            Assert.That(line["name"]!.ToString(), Is.EqualTo(result!["name"]!.ToString()));
            Assert.That((line["rendered"] ?? line["error"])!.ToString(), Is.EqualTo((result["rendered"] ?? result["error"])!.ToString()), line["name"]!.ToString());
        }
    }

    [Test]
    public void A_malformed_template_is_an_error_of_every_case_and_of_the_command()
    {
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("bad.jinja"), "{% if %}");
        File.WriteAllText(work.At("cases.json"), """[{"name": "a", "messages": []}]""");
        var run = Owt.Run(work.Root, 2, "render", "--template", "bad.jinja", "--input", "cases.json");
        Assert.That(run.Json.Single()["error"]!.ToString(), Is.EqualTo("Expected an expression, got 'end of statement block'"));
        Assert.That(run.Error, Does.Contain("bad.jinja, line 1"));
    }

    [Test]
    public void A_model_from_scratch_can_be_inspected_and_talked_to_through_its_template()
    {
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("texts.jsonl"), "{\"text\": \"one two three, two three four, three four five\"}\n");
        Owt.Run(work.Root, 0, "init", "--vocab-size", "270", "--tokenizer-data", "texts.jsonl", "--output", "new model");
        var model = Owt.Run(work.Root, 0, "inspect", "new model", "--json").Json[0];
        Assert.That((model["kind"]!.ToString(), model["vocab_size"]!.GetValue<int>()), Is.EqualTo(("model", 270)));
        File.WriteAllText(work.At("messages.json"), "[{\"role\": \"user\", \"content\": \"two three\"}]");
        var json = Owt.Run(work.Root, 0, "generate", "--model", "new model", "--messages", "messages.json", "--max-new-tokens", "3", "--json").Json[0];
        File.WriteAllText(work.At("cases.json"), "[{\"name\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"two three\"}], \"add_generation_prompt\": true}]");
        var rendered = Owt.Run(work.Root, 0, "render", "--tokenizer", "new model", "--input", "cases.json").Json[0]["rendered"]!.ToString();
        Assert.That(rendered, Is.EqualTo("<|im_start|>user\ntwo three<|im_end|>\n<|im_start|>assistant\n"));
        File.WriteAllText(work.At("texts.json"), new JsonArray(rendered).ToJsonString());
        var tokens = Owt.Run(work.Root, 0, "tokenize", "--tokenizer", "new model", "--input", "texts.json").Json[0];
        Assert.That(json["input_ids"]!.ToJsonString(), Is.EqualTo(tokens["ids"]!.ToJsonString()));
        Assert.That(Owt.Run(work.Root, 1, "init", "--output", "new model").Error, Does.Contain("already exists"));
    }

    [Test]
    public void The_doctor_tells_torch_threads_and_rates()
    {
        var text = Owt.Run(".", 0, "doctor").Output;
        Assert.That(text, Does.Contain("torch ").And.Contains("because ").And.Contains("cores ").And.Contains("GFLOP/s"));
        Assert.That(text, Does.Match(@"torch +(TorchSharp package \d|system).* libtorch \d+\.\d+").And.Match("BLAS +[^ ]").And.Match("oneDNN +[^ ]"));
        Assert.That(text.Contains("MKL", StringComparison.Ordinal) && text.Contains("openblas", StringComparison.OrdinalIgnoreCase), Is.False, "a torch with MKL needs no other BLAS");
    }

    private static float[] Floats(byte[] bytes) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes).ToArray();
}
