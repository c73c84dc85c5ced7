using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Configuration.Foreign;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Reinforcement;

/// <summary>Configs of sampled answers: what they improve, what is refused, and what other programs call it.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class SampledConfigTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    [Test]
    public void From_a_short_supervised_start_GRPO_and_RLOO_answer_more_held_back_rows_right()
    {
        using var folder = new TemporaryFolder();
        Run("grpo-sft", $"output_dir={folder.At("start")}", "evaluation.generate_rows=0");
        foreach (var objective in new[] { "grpo", "rloo" })
        {
            // Half of the config's steps.
            Run(objective, $"output_dir={folder.At(objective)}", $"adapter.path={folder.At("start")}", "training.max_steps=40", "data.eval.0.limit=100", "evaluation.generate_rows=100");
            var exact = File.ReadLines(folder.At(objective, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!["eval_exact_match"]?.GetValue<double>()).OfType<double>().ToList();
            TestContext.Out.WriteLine($"{objective}, exactly right: {string.Join(", ", exact)}");
            Assert.That(exact[0], Is.LessThan(0.3), objective);
            Assert.That(exact[^1], Is.GreaterThan(0.45), objective);
        }
    }

    [TestCase("type: grpo, rewards: exact_match, num_generations: 3", "objective.num_generations: 8 answers are sampled together")]
    [TestCase("type: grpo, rewards: exact_match, reward_weights: [1, 2]", "objective.reward_weights: there are 2 weights for 1 rewards")]
    [TestCase("type: grpo, rewards: [ { type: regex, pattern: '(' } ]", "objective.rewards.0.pattern: '(' is not a regular expression")]
    [TestCase("type: grpo, rewards: [ { type: class } ]", "objective.rewards.0.assembly: the path of a .dll is required")]
    [TestCase("type: grpo, rewards: [ { type: model } ]", "objective.rewards.0.model: a reward model is required")]
    [TestCase("type: grpo, rewards: [ { type: command } ]", "objective.rewards.0.command: a program is required")]
    [TestCase("type: grpo, rewards: [ exact_match, exact_match ]", "2 rewards are called exact_match; give each a name")]
    [TestCase("type: grpo, rewards: [ { type: lenght } ]", "objective.rewards.0.type")]
    [TestCase("type: grpo, loss_type: dapoo, rewards: exact_match", "'dapoo' is not a loss of grpo")]
    [TestCase("type: rloo, rewards: exact_match, delta: 2", "objective.delta: the objective rloo has no such setting; it belongs to grpo")]
    [TestCase("type: rloo, rewards: exact_match, reward_clip_range: [1]", "objective.reward_clip_range: two numbers are expected")]
    [TestCase("type: grpo, rewards: exact_match, samples: other.jsonl", "data.train: objective.samples has the training rows")]
    [TestCase("type: dpo, num_generations: 4", "objective.num_generations: the objective dpo has no such setting; it belongs to grpo, rloo")]
    public void Settings_that_do_not_fit_are_told(string objective, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"output_dir: out\nmodel: {{ path: base }}\ndata: {{ train: rows.jsonl }}\nobjective: {{ {objective} }}\ntraining: {{ micro_batch_size: 8 }}\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [TestCase("type: json_schema, schema: absent.json", "objective.rewards.0.schema")]
    [TestCase("type: class, assembly: absent.dll", "objective.rewards.0.assembly")]
    [TestCase("type: model, model: ./absent", "objective.rewards.0.model")]
    public void Files_of_rewards_that_do_not_exist_are_told_before_the_run(string reward, string key)
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", "{}\n");
        var path = folder.Write("train.yaml", $"output_dir: '{folder.Root}/out'\nmodel: {{ path: '{s_quickstart}/base' }}\ndata: {{ train: rows.jsonl }}\nobjective: {{ type: grpo, rewards: [ {{ {reward} }} ] }}\n");
        Assert.That(RunCheck.Problems(RunConfigFile.Inspect(path, [])).Select(static p => p.Key), Is.EqualTo(new[] { key }));
    }

    [TestCase("""{"prompt": "One and one is", "solution": "two"}""", "two", "One and one is")]
    [TestCase("""{"prompt": [{"role": "user", "content": "One and one?"}], "answer": "two"}""", "two", "One and one?")]
    [TestCase("""{"question": "One and one?", "answer": "two"}""", "two", "One and one?")]
    [TestCase("""{"messages": [{"role": "user", "content": "One and one?"}, {"role": "assistant", "content": "two"}]}""", "two", "One and one?")]
    [TestCase("""{"prompt": "One and one is", "chosen": " two", "rejected": " one"}""", null, "One and one is")]
    [TestCase("""{"prompt_ids": [40, 41], "answer": "two"}""", "two", null)]
    public void A_prompt_is_read_from_rows_of_every_format_with_all_columns(string row, string? answer, string? prompt)
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", row + "\n" + row + "\n");
        var draft = RunDraft.Read(Config(folder, "rows.jsonl"), new SilentListener(), new RunOptions { IgnoreMemory = true });
        var read = draft.Data.Train.Rows[0];
        var fields = JsonNode.Parse(read.Fields!)!;
        Assert.That(read.Role, Is.EqualTo(RowRole.Prompt));
        Assert.That(read.CountTargets(), Is.Zero);
        Assert.That(fields["answer"]?.GetValue<string>(), Is.EqualTo(answer));
        Assert.That(prompt is null || fields["prompt"]!.GetValue<string>() == prompt, fields["prompt"]?.ToJsonString());
        Assert.That(JsonNode.DeepEquals(fields["row"], JsonNode.Parse(row)), "rewards see the row as it is in the file");
    }

    [Test]
    public void A_row_without_a_prompt_is_told()
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("rows.jsonl", """{"completion": "two"}""" + "\n");
        Assert.That(() => RunDraft.Read(Config(folder, "rows.jsonl"), new SilentListener(), new RunOptions { IgnoreMemory = true }), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("rows.jsonl"));
    }

    [Test]
    public void Groups_of_recorded_samples_have_one_size()
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("samples.jsonl", string.Join('\n', new[] { 0, 0, 1 }.Select(static g => $$$"""{"prompt_ids": [40], "completion_ids": [41, 2], "group": {{{g}}}, "rewards": {"a": 1}}""")) + "\n");
        var config = RunConfigFile.Read(folder.Write("train.yaml", $"output_dir: '{folder.Root}/out'\nmodel: {{ path: '{s_quickstart}/base' }}\nobjective: {{ type: grpo, samples: samples.jsonl }}\n"), []);
        Assert.That(() => RunDraft.Read(config, new SilentListener(), new RunOptions { IgnoreMemory = true }), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("group 1 has 1 rows, and the first group 2"));
    }

    [Test]
    public void TRLs_GRPO_config_is_converted()
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(folder.Write("grpo.yaml", """
            model_name_or_path: m
            dataset_name: rows.jsonl
            num_generations: 4
            max_completion_length: 64
            beta: 0.04
            epsilon_high: 0.28
            loss_type: dr_grpo
            scale_rewards: false
            reward_funcs: accuracy_reward
            max_prompt_length: 256
            use_vllm: true
            per_device_train_batch_size: 4
            """));
        var config = RunConfigFile.Parse("c.yaml", converted.Write(), ["data.train=rows.jsonl"]).Config;
        Assert.That(config.Objective, Is.EqualTo(config.Objective with { Type = "grpo", NumGenerations = 4, MaxCompletionLength = 64, Beta = 0.04, EpsilonHigh = 0.28, ScaleRewards = "none" }));
        Assert.That(config.Objective.LossType!.Values, Is.EqualTo(new[] { "dr_grpo" }));
        Assert.That(config.Objective.Rewards.Select(static r => r.Type), Is.EqualTo(new[] { "number" }));
        Assert.That(converted.LeftOut.Select(static l => l.Name), Is.SupersetOf(new[] { "max_prompt_length", "use_vllm" }));
    }

    private static RunConfig Config(TemporaryFolder folder, string rows) => RunConfigFile.Read(
        folder.Write("train.yaml", $$"""
            output_dir: '{{folder.Root}}/out'
            model: { path: '{{s_quickstart}}/base' }
            data: { train: {{rows}} }
            objective: { type: grpo, rewards: exact_match, num_generations: 2 }
            training: { micro_batch_size: 4 }
            """), []);

    private static void Run(string config, params string[] overrides)
    {
        using var run = TrainingRun.Prepare(RunConfigFile.Read(Path.Combine(SharedFiles.Root, "configs", $"{config}.yaml"), overrides), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
    }
}
