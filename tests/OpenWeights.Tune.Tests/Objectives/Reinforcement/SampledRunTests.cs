using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests.Rewards;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Reinforcement;

/// <summary>Runs that sample answers: they resume bit for bit, their samples can be trained on again, and micro-batches change nothing.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class SampledRunTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    // Rewards that vary from the first step on, without any skill.
    private const string Rewards = "rewards: [ { type: length, max_tokens: 4, slope: 8 }, { type: regex, pattern: '[a-m]', name: letters } ]";

    [TestCase("type: grpo, num_generations: 4, num_iterations: 2, steps_per_generation: 2, beta: 0.05")]
    [TestCase("type: rloo, num_generations: 4, num_iterations: 3")]
    public void A_run_stopped_between_two_passes_goes_on_bit_for_bit(string objective)
    {
        using var folder = new TemporaryFolder();
        RunConfig Named(string name) => Config(folder, $"{objective}, {Rewards}", "max_steps: 6, micro_batch_size: 8", name);
        _ = Run(Named("straight"));
        using var stop = new CancellationTokenSource();
        Assert.That(Run(Named("stopped"), new SilentListener { OnStep = s => StopAt(s, 2, stop) }, stop: stop.Token), Is.Null);
        Assert.That(Run(Named("stopped"), resume: true), Is.Not.Null);
        Assert.That(File.ReadAllBytes(folder.At("stopped", "adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("straight", "adapter", "adapter_model.safetensors"))));
        Assert.That(Lines(folder, "stopped", "metrics.jsonl"), Is.EqualTo(Lines(folder, "straight", "metrics.jsonl")));
        Assert.That(Lines(folder, "stopped", "samples.jsonl"), Is.EqualTo(Lines(folder, "straight", "samples.jsonl")));
    }

    [TestCase("type: grpo, beta: 0.1, loss_type: grpo")]
    [TestCase("type: grpo, mask_truncated_completions: true")]
    [TestCase("type: rloo")]
    public void Recorded_samples_give_the_step_that_sampled_them(string objective)
    {
        using var folder = new TemporaryFolder();
        _ = Run(Config(folder, $"{objective}, num_generations: 4, {Rewards}", "max_steps: 1, micro_batch_size: 16", "fresh"));
        File.Copy(folder.At("fresh", "samples.jsonl"), folder.At("samples.jsonl"));
        _ = Run(Config(folder, $"{objective}, samples: samples.jsonl", "max_steps: 1, micro_batch_size: 16", "recorded"));
        var (fresh, recorded) = (Metrics(folder, "fresh")[0], Metrics(folder, "recorded")[0]);
        foreach (var name in new[] { "loss", "grad_norm", "reward", "reward_std", "entropy", "completions/mean_length", "completions/clipped_ratio", "rewards/letters/mean" })
        {
            Assert.That(recorded[name]!.GetValue<double>(), Is.EqualTo(fresh[name]!.GetValue<double>()).Within(1e-5), name);
        }
    }

    [Test]
    public void Micro_batches_and_accumulation_change_neither_samples_nor_gradient()
    {
        using var folder = new TemporaryFolder();
        const string objective = $"type: grpo, num_generations: 4, {Rewards}";
        _ = Run(Config(folder, objective, "max_steps: 1, micro_batch_size: 16", "one"));
        _ = Run(Config(folder, objective, "max_steps: 1, micro_batch_size: 4, gradient_accumulation_steps: 4", "four"));
        var (one, four) = (Metrics(folder, "one")[0], Metrics(folder, "four")[0]);
        Assert.That(Samples(folder, "four").Select(static s => s["completion_ids"]!.ToJsonString()), Is.EqualTo(Samples(folder, "one").Select(static s => s["completion_ids"]!.ToJsonString())));
        foreach (var name in new[] { "loss", "grad_norm", "entropy" })
        {
            Assert.That(four[name]!.GetValue<double>(), Is.EqualTo(one[name]!.GetValue<double>()).Within(1e-5), name);
        }
    }

    [Test]
    public void The_sampler_and_the_trainer_compute_the_same_probabilities()
    {
        using var folder = new TemporaryFolder();
        _ = Run(Config(folder, $"type: grpo, num_generations: 4, temperature: 0.8, top_p: 0.95, top_k: 50, {Rewards}", "max_steps: 2, micro_batch_size: 16", "run"));
        foreach (var line in Metrics(folder, "run"))
        {
            Assert.That(line["sampling/sampling_logp_difference/max"]!.GetValue<double>(), Is.LessThan(1e-4));
        }
    }

    [Test]
    public void Every_prompt_has_its_answers_with_rewards_in_samples_jsonl_and_in_the_report()
    {
        using var folder = new TemporaryFolder();
        _ = Run(Config(folder, $"type: grpo, num_generations: 4, {Rewards}", "max_steps: 2, micro_batch_size: 8", "run"));
        var samples = Samples(folder, "run");
        Assert.That(samples, Has.Count.EqualTo(16));
        foreach (var group in samples.GroupBy(static s => s["group"]!.GetValue<string>()))
        {
            Assert.That(group.Count(), Is.EqualTo(4));
            Assert.That(group.Select(static s => s["prompt_ids"]!.ToJsonString()).Distinct().Count(), Is.EqualTo(1));
            Assert.That(group.Sum(static s => s["advantage"]!.GetValue<double>()), Is.EqualTo(0).Within(1e-9));
        }

        foreach (var sample in samples)
        {
            Assert.That(sample["logprobs"]!.AsArray(), Has.Count.EqualTo(sample["completion_ids"]!.AsArray().Count));
            Assert.That(sample["rewards"]!.AsObject().Select(static r => r.Key), Is.EqualTo(new[] { "length", "letters" }));
        }

        var report = File.ReadAllText(folder.At("run", "report.html"));
        Assert.That(report, Does.Contain("Sampled answers").And.Contains("letters").And.Contains("Reward"));
    }

    [Test]
    public void An_evaluation_judges_answers_to_its_own_prompts()
    {
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        var config = Config(folder, $"type: grpo, num_generations: 4, num_generations_eval: 1, {Rewards}", "max_steps: 2, micro_batch_size: 8", "run");
        _ = Run(config with { Data = config.Data with { Eval = [new DataSource { Path = Path.Combine(s_quickstart, "eval.jsonl"), Limit = 6 }] }, Evaluation = config.Evaluation with { EverySteps = 1 } }, listener);
        Assert.That(listener.Evaluations, Has.Count.EqualTo(2));
        Assert.That(listener.Evaluations[0].Objective, Contains.Key("eval_reward").And.ContainKey("eval_rewards/letters/mean"));
        Assert.That(listener.Evaluations[0].TargetTokens, Is.GreaterThan(6));
    }

    [Test]
    public void Rewards_that_never_vary_are_told_with_what_to_try()
    {
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        _ = Run(Config(folder, "type: grpo, num_generations: 2, max_completion_length: 2, rewards: [ { type: exact_match } ]", "max_steps: 10, micro_batch_size: 2", "run"), listener);
        Assert.That(listener.Warnings, Has.One.Contains("same reward (mean 0)").And.One.Contains("num_generations"));
    }

    [Test]
    public void A_reward_model_judges_the_prompt_with_the_answer()
    {
        using var folder = new TemporaryFolder();
        var pairs = Path.Combine(SharedFiles.Root, "datasets", "preferences", "pairs-train.jsonl");
        var judge = folder.Write("reward.yaml", $$"""
            output_dir: '{{folder.At("judge")}}'
            model: { path: '{{s_quickstart}}/base', dtype: float32 }
            adapter: { type: lora, r: 4 }
            data: { train: { path: '{{pairs}}', limit: 8 }, max_length: 128 }
            objective: { type: reward }
            training: { max_steps: 2, micro_batch_size: 4 }
            evaluation: { generate_rows: 0 }
            """);
        _ = Run(RunConfigFile.Read(judge, []));
        _ = Run(Config(folder, $"type: grpo, num_generations: 4, rewards: [ {{ type: model, model: '{folder.At("judge")}' }} ]", "max_steps: 1, micro_batch_size: 8", "run"));
        var section = new RewardSection { Type = "model", Model = folder.At("judge") };
        using var model = RewardModel.Load(section, TorchSharp.torch.float32, TestDevice.Current);
        var rows = File.ReadLines(Path.Combine(s_quickstart, "train.jsonl")).Take(2).Select(static l => JsonNode.Parse(l)!.AsObject()).ToList();
        var samples = Samples(folder, "run");
        var expected = model.Rewards([.. samples.Select((s, i) => RewardTests.Answer(s["completion"]!.GetValue<string>(), null, rows[i / 4]))]);
        Assert.That(samples.Select(static s => s["rewards"]!["model"]!.GetValue<double>()), Is.EqualTo(expected).Within(1e-6));
        Assert.That(expected.Distinct().Count(), Is.GreaterThan(1));
        Assert.That(
            () => RewardModel.Load(section with { Model = Path.Combine(s_quickstart, "base") }, TorchSharp.torch.float32, TestDevice.Current),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("this is a language model"));
    }

    private static RunConfig Config(TemporaryFolder folder, string objective, string training, string name)
    {
        var length = objective.Contains("max_completion_length", StringComparison.Ordinal) ? "" : ", max_completion_length: 8";
        var data = objective.Contains("samples:", StringComparison.Ordinal) ? "" : $"train: {{ path: '{s_quickstart}/train.jsonl', limit: 12 }},";
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.At(name)}}'
            model: { path: '{{s_quickstart}}/base', dtype: float32 }
            adapter: { type: lora, r: 4, lora_alpha: 8 }
            data: { {{data}} shuffle: false, max_length: 128 }
            objective: { {{objective}}{{length}} }
            training: { {{training}}, learning_rate: 1.0e-3, warmup_steps: 0 }
            checkpoint: { every_steps: 0 }
            evaluation: { generate_rows: 0 }
            """);
        return RunConfigFile.Read(path, []);
    }

    private static string? Run(RunConfig config, SilentListener? listener = null, bool resume = false, CancellationToken stop = default)
    {
        using var run = TrainingRun.Prepare(config, listener ?? new SilentListener(), new RunOptions(Resume: resume, IgnoreMemory: true));
        return run.Run(overwrite: false, "test", stop);
    }

    private static void StopAt(StepMetrics step, long at, CancellationTokenSource stop)
    {
        if (step.Step == at)
        {
            stop.Cancel();
        }
    }

    private static List<JsonObject> Metrics(TemporaryFolder folder, string run) => [.. File.ReadLines(folder.At(run, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null)];

    private static List<JsonObject> Samples(TemporaryFolder folder, string run) => [.. File.ReadLines(folder.At(run, "samples.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject())];

    // Lines without what the clock and the machine decide.
    private static List<string> Lines(TemporaryFolder folder, string run, string file) =>
    [
        .. File.ReadLines(folder.At(run, file)).Select(static line =>
        {
            var json = JsonNode.Parse(line)!.AsObject();
            foreach (var key in new[] { "seconds", "seconds/generation", "seconds/rewards", "tokens_per_second", "peak_memory_bytes" })
            {
                json.Remove(key);
            }

            return json.ToJsonString();
        }),
    ];
}
