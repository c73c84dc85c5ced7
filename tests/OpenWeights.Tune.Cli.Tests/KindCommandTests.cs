using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The commands with adapters of some kinds, as PEFT wrote them; the library's tests have every kind.</summary>
public sealed class KindCommandTests
{
    private static IEnumerable<string> Names => SharedFiles.Present(
        [
            "kind_ia3", "kind_oft", "kind_adalora", "kind_prefix_tuning",
        ],
        "goldens", "adapters2026");

    [TestCaseSource(nameof(Names))]
    public void It_is_inspected_scored_generated_with_trained_on_and_merged(string name)
    {
        var golden = SharedFiles.Require("goldens", "adapters2026", name);
        var (reference, json) = (Path.Combine(golden, "../llama"), JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "golden.json")))!);
        var type = JsonNode.Parse(File.ReadAllText(Path.Combine(golden, "adapter_config.json")))!["peft_type"]!.ToString();
        using var work = new TemporaryFolder();
        Assert.That(Owt.Run(work.Root, 0, "inspect", golden, "--json").Json[0]["type"]!.ToString(), Is.EqualTo(type));

        string[] rows = [.. json["runs"]!["full"]!["input_ids"]!.AsArray().Select(static r => $"{{\"input_ids\": {r!.ToJsonString()}}}")];
        File.WriteAllLines(work.At("input.jsonl"), rows);
        double Score(params string[] arguments) => Owt.Run(work.Root, 0, ["score", "--model", .. arguments, "--input", "input.jsonl"]).Json[0]["sum_logprob"]!.GetValue<double>();
        var scored = Score(reference, "--adapter", golden);
        Assert.That(scored, Is.Not.EqualTo(Score(reference)).Within(1e-4));

        File.WriteAllText(work.At("run.yaml"), $$"""
            model: { path: {{reference}}, device: cpu }
            output_dir: {{work.At("run")}}
            adapter: { path: {{golden}} }
            data: { train: input.jsonl, packing: false }
            training: { max_steps: 2, learning_rate: 0.001, micro_batch_size: 2 }
            """);
        Owt.Run(work.Root, 0, "train", "run.yaml");
        Assert.That(Owt.Run(work.Root, 0, "inspect", "run/adapter", "--json").Json[0]["type"]!.ToString(), Is.EqualTo(type));

        string[] export = ["export", "--format", "merged", "--model", reference, "--adapter", golden, "--output", "merged"];
        if (type is "PROMPT_TUNING" or "P_TUNING" or "PREFIX_TUNING")
        {
            Assert.That(Owt.Run(work.Root, 2, export).Error, Does.Contain("cannot be merged"));
            return;
        }

        Owt.Run(work.Root, 0, export);
        Assert.That(Score("merged"), Is.EqualTo(scored).Within(1e-4));
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
