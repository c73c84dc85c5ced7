using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The commands with an adapter of every kind, as PEFT wrote it: inspect, score, generate, going on with training, export.</summary>
public sealed class KindCommandTests
{
    private TemporaryFolder _work = null!;

    private static IEnumerable<string> Names => SharedFiles.Present(
        [
            "kind_adalora", "kind_boft", "kind_c3a", "kind_delora", "kind_fourierft", "kind_gralora", "kind_hira", "kind_hra", "kind_ia3", "kind_ln_tuning", "kind_loha", "kind_lokr", "kind_miss", "kind_oft",
            "kind_p_tuning", "kind_prefix_tuning", "kind_prompt_tuning", "kind_randlora", "kind_road", "kind_shira", "kind_vblora", "kind_vera", "kind_waveft", "lora_dora_rslora", "tokens_only",
        ],
        "goldens", "adapters2026");

    [OneTimeSetUp]
    public void Prepare() => _work = new TemporaryFolder();

    [OneTimeTearDown]
    public void Clean() => _work.Dispose();

    [TestCaseSource(nameof(Names))]
    public void It_is_inspected_scored_generated_with_trained_on_and_merged(string name)
    {
        var golden = SharedFiles.Require("goldens", "adapters2026", name);
        var (adapter, root) = (JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "adapter_config.json")))!, _work.Root);
        var type = adapter["peft_type"]!.ToString();
        Assert.That(Owt.Run(root, 0, "inspect", golden, "--json").Json[0]["type"]!.ToString(), Is.EqualTo(type));

        var json = JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "golden.json")))!;
        var model = Path.GetFileName(json["base"]!.ToString());
        PrepareBase(Path.Combine(golden, json["base"]!.ToString()), model);
        var rows = json["runs"]!["full"]!["input_ids"]!.AsArray();
        File.WriteAllLines(_work.At($"{name}.jsonl"), rows.Select(static r => $"{{\"input_ids\": {r!.ToJsonString()}}}"));
        double Score(params string[] arguments) => Owt.Run(root, 0, ["score", "--model", .. arguments, "--input", $"{name}.jsonl"]).Json[0]["sum_logprob"]!.GetValue<double>();
        var scored = Score(model, "--adapter", golden);
        var said = Owt.Run(root, 0, "generate", "--model", model, "--adapter", golden, "--prompt", "abcd", "--max-new-tokens", "8", "--temperature", "0", "--json").Json[0]["output_ids"]!.AsArray();
        Assert.That(said, Has.Count.InRange(1, 8));

        File.WriteAllText(_work.At($"{name}.yaml"), $$"""
            model: { path: {{model}}, device: cpu }
            output_dir: {{name}}-run
            adapter: { path: {{golden}} }
            data: { train: {{name}}.jsonl, packing: false }
            training: { max_steps: 2, learning_rate: 0.001, micro_batch_size: 2 }
            """);
        Owt.Run(root, 0, "train", $"{name}.yaml");
        var further = _work.At($"{name}-run", "adapter");
        Assert.That(JsonNode.Parse(File.ReadAllText(Path.Combine(further, "adapter_config.json")))!["peft_type"]!.ToString(), Is.EqualTo(type));
        Assert.That(File.ReadAllBytes(Path.Combine(further, "adapter_model.safetensors")), Is.Not.EqualTo(File.ReadAllBytes(Path.Combine(golden, "adapter_model.safetensors"))));

        string[] export = ["export", "--format", "merged", "--model", model, "--adapter", golden, "--output", $"{name}-merged", "--verify", "false"];
        if (type is "PROMPT_TUNING" or "P_TUNING" or "PREFIX_TUNING")
        {
            Assert.That(Owt.Run(root, 2, export).Error, Does.Contain("cannot be merged"));
            return;
        }

        Owt.Run(root, 0, export);
        Assert.That(Score($"{name}-merged"), Is.EqualTo(scored).Within(1e-4));
    }

    // One of the reference's bases with a tokenizer of bytes.
    private void PrepareBase(string reference, string name)
    {
        if (Directory.Exists(_work.At(name)))
        {
            return;
        }

        _ = Directory.CreateDirectory(_work.At(name));
        foreach (var file in new[] { "config.json", "model.safetensors" })
        {
            File.Copy(Path.Combine(reference, file), _work.At(name, file));
        }

        File.WriteAllText(_work.At(name, "tokenizer.json"), ByteTokenizer().ToJsonString());
    }

    // A token for each byte, as GPT-2 writes them, and nothing merged.
    private static JsonObject ByteTokenizer()
    {
        var (vocabulary, next) = (new JsonObject(), 256);
        for (var i = 0; i < 256; i++)
        {
            var isShown = i is >= 33 and <= 126 or >= 161 and <= 172 or >= 174;
            vocabulary[((char)(isShown ? i : next++)).ToString()] = i;
        }

        return new JsonObject
        {
            ["version"] = "1.0",
            ["added_tokens"] = new JsonArray(),
            ["pre_tokenizer"] = new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true, ["use_regex"] = false },
            ["decoder"] = new JsonObject { ["type"] = "ByteLevel" },
            ["model"] = new JsonObject { ["type"] = "BPE", ["vocab"] = vocabulary, ["merges"] = new JsonArray() },
        };
    }

    [Test]
    public void An_adapter_of_stacked_experts_is_written_with_one_of_each_where_that_is_asked_for()
    {
        var golden = SharedFiles.Require("goldens", "adapters2026", "lora_params_qwen3moe");
        var reference = Path.Combine(golden, "../qwen3_moe");
        using var work = new TemporaryFolder();
        File.WriteAllText(work.At("input.jsonl"), "{\"input_ids\": [5, 6, 7, 8, 9, 10]}");
        double Score(string adapter) => Owt.Run(work.Root, 0, "score", "--model", reference, "--adapter", adapter, "--input", "input.jsonl").Json[0]["sum_logprob"]!.GetValue<double>();
        var written = Owt.Run(work.Root, 0, "export", "--format", "peft", "--model", reference, "--adapter", golden, "--experts", "separate", "--output", "apart");
        Assert.That(written.Output, Does.Contain("an update of each expert"));
        Assert.That(Owt.Run(work.Root, 0, "inspect", "apart", "--tensors").Output, Does.Contain(".experts.0.down_proj.lora_A.weight").And.Contain(".experts.0.gate_proj.lora_B.weight"));
        Assert.That(Score("apart"), Is.EqualTo(Score(golden)).Within(1e-5));
    }
}
