using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The commands that come before training know the rows of each objective.</summary>
public sealed class ObjectiveCommandTests
{
    private static readonly string s_datasets = Path.Combine(SharedFiles.Root, "datasets");

    private static IEnumerable<TestCaseData> Objectives()
    {
        static TestCaseData Case(string objective, string data, params string[] shown) => new TestCaseData(objective, data, shown).SetArgDisplayNames(objective.Split(',')[0]["type: ".Length..]);
        yield return Case("type: dpo", "preferences/pairs-train.jsonl", "chosen", "rejected");
        yield return Case("type: cpo, loss_type: simpo", "preferences/pairs-train.jsonl", "chosen", "rejected");
        yield return Case("type: kto", "preferences/labels-train.jsonl", "desired", "undesired");
        yield return Case("type: reward", "preferences/pairs-train.jsonl", "chosen", "rejected");
        yield return Case("type: classification", "texts/classes-train.jsonl");
        yield return Case("type: embedding", "texts/related-train.jsonl");
        yield return Case("type: grpo, rewards: exact_match, num_generations: 4", "quickstart/train.jsonl");
        yield return Case("type: rloo, rewards: exact_match, num_generations: 4", "quickstart/train.jsonl");
        yield return Case($"type: distill, teacher: '{s_datasets}/quickstart/base', seq_kd: true, lmbda: 0.5", "quickstart/train.jsonl");
    }

    [Test]
    public void Preferences_take_at_most_a_third_more_memory_than_supervised_training_on_the_same_rows()
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "init", "--hidden-size", "256", "--intermediate-size", "1024", "--layers", "8", "--vocab-size", "2000", "--output", "model");
        var random = new Random(1);
        var pairs = Enumerable.Range(0, 8).Select(_ => (Prompt: Ids(8), Chosen: Ids(300), Rejected: Ids(300))).ToList();
        string Ids(int count) => string.Join(',', Enumerable.Range(0, count).Select(_ => random.Next(3, 2000)));
        _ = work.Write("pairs.jsonl", string.Concat(pairs.Select(static p => $$"""{"prompt_ids":[{{p.Prompt}}],"chosen_ids":[{{p.Chosen}}],"rejected_ids":[{{p.Rejected}}]}""" + "\n")));
        _ = work.Write("rows.jsonl", string.Concat(pairs.SelectMany(static p => new[] { p.Chosen, p.Rejected }.Select(answer => $$"""{"input_ids":[{{p.Prompt}},{{answer}}],"labels":[{{string.Join(',', Enumerable.Repeat(-100, 8))}},{{answer}}]}""" + "\n"))));

        long Peak(string objective, string rows, int microBatch)
        {
            _ = work.Write("train.yaml", $$"""
                output_dir: run
                model: { path: model, dtype: float32, device: cpu }
                adapter: { r: 8, lora_alpha: 16 }
                data: { train: {{rows}}, packing: false, cache: 'off' }
                objective: { {{objective}} }
                training: { max_steps: 2, micro_batch_size: {{microBatch}} }
                evaluation: { generate_rows: 0 }
                checkpoint: { every_steps: 0 }
                """);
            Owt.Run(work.Root, 0, "train", "train.yaml", "--overwrite");
            return File.ReadLines(work.At("run", "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!["peak_memory_bytes"]?.GetValue<long>() ?? 0).Max();
        }

        var supervised = Peak("type: sft", "rows.jsonl", 8);
        Assert.That(supervised, Is.GreaterThan(400L << 20), "half of it is activations, and the rest the program");
        Assert.That(Peak("type: dpo", "pairs.jsonl", 4), Is.LessThan(1.3 * supervised));
    }

    [TestCaseSource(nameof(Objectives))]
    public void Rows_are_shown_settings_checked_memory_told_and_the_plan_made(string objective, string data, string[] shown)
    {
        using var work = new TemporaryFolder();
        _ = work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: '{{s_datasets}}/quickstart/base', dtype: float32, device: cpu }
            adapter: { r: 4, lora_alpha: 8 }
            data: { train: [ { path: '{{s_datasets}}/{{data}}', limit: 16 } ], max_length: 128, cache_dir: cache }
            objective: { {{objective}} }
            training: { max_steps: 2, micro_batch_size: 4 }
            """);
        var type = objective.Split(',')[0]["type: ".Length..];
        Owt.Run(work.Root, 0, "validate", "train.yaml");

        var preview = Owt.Run(work.Root, 0, "data", "preview", "train.yaml").Output;
        foreach (var word in shown)
        {
            Assert.That(preview, Does.Contain(word));
        }

        var estimate = Owt.Run(work.Root, 0, "estimate", "train.yaml", "--json").Json.Single();
        var samples = type is "grpo" or "rloo" || objective.Contains("lmbda", StringComparison.Ordinal);
        Assert.That(estimate["sampling"]!.GetValue<long>(), samples ? Is.GreaterThan(0) : Is.Zero);
        Assert.That(estimate["reference"]!.GetValue<long>(), type == "distill" ? Is.GreaterThan(0) : Is.Zero, "an adapter's reference is its base");
        Assert.That(estimate["fits"]!.GetValue<bool>());

        var plan = Owt.Run(work.Root, 0, "train", "train.yaml", "--dry-run", "--json").Json.Single();
        Assert.That(plan["objective"]!.ToString(), Is.EqualTo(type));
        Assert.That(plan["steps"]!.GetValue<int>(), Is.EqualTo(2));
        Assert.That(plan["memory"]!["peak"]!.GetValue<long>(), Is.EqualTo(estimate["peak"]!.GetValue<long>()));
        Assert.That(Directory.Exists(work.At("run")), Is.False);
        if (objective.Contains("seq_kd", StringComparison.Ordinal))
        {
            Assert.That(Owt.Run(work.Root, 0, "estimate", "train.yaml").Output, Does.Contain("sampling "));
            Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--dry-run").Output, Does.Match(@"teacher   answers to \d+ prompts.*sampled once before training").And.Contains("(or sampling "));
        }
    }
}
