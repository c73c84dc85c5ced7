using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests.Objectives;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training.Memory;

/// <summary>What sampling answers while training takes, told before any weight is read.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class SamplingMemoryTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    // Answers of a step: two groups of four. With accumulation, samples of all micro-batches; with an evaluation, as many as are generated at once.
    [TestCase("type: grpo, num_generations: 4, rewards: exact_match", "micro_batch_size: 8", "", 8)]
    [TestCase("type: rloo, num_generations: 4, rewards: exact_match", "micro_batch_size: 8", "", 8)]
    [TestCase("type: grpo, num_generations: 4, rewards: exact_match", "micro_batch_size: 4, gradient_accumulation_steps: 3", "", 12)]
    [TestCase("type: grpo, num_generations: 4, rewards: exact_match, steps_per_generation: 10", "micro_batch_size: 4", "", 16)]
    [TestCase("type: grpo, num_generations: 4, rewards: exact_match", "micro_batch_size: 8", "eval", 32)]
    public void It_is_the_keys_and_values_of_the_longest_texts_and_their_scores(string objective, string training, string eval, int texts)
    {
        using var folder = new TemporaryFolder();
        var draft = RunDraft.Read(Config(folder, objective, training, eval), new SilentListener());
        var (model, estimate) = (OpenWeights.Tune.Models.Weights.ModelLoader.ReadConfig(draft.Folder), draft.Memory.Estimate);
        var longest = draft.Data.Train.LongestRow + 100;
        var capacity = (long)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)longest);
        var cache = texts * model.LayerCount * 2L * model.KeyValueHeadCount * model.HeadDimension * capacity * sizeof(float);
        var scores = texts * (long)model.VocabularySize * 2 * sizeof(float);
        Assert.That(estimate.Sampling, Is.GreaterThanOrEqualTo(cache + scores));
        Assert.That(estimate.Sampling, Is.EqualTo(cache + scores).Within(10).Percent);
        Assert.That(estimate.Total, Is.EqualTo(estimate.Weights + estimate.Adapter + estimate.Optimizer + estimate.Program + Math.Max(estimate.Sampling, estimate.Gradients + estimate.Activations - estimate.Overlap)));
    }

    [Test]
    public void Long_answers_of_many_texts_are_what_the_run_needs()
    {
        using var folder = new TemporaryFolder();
        var few = RunDraft.Read(Config(folder, "type: grpo, num_generations: 64, rewards: exact_match", "micro_batch_size: 1, gradient_accumulation_steps: 64", ""), new SilentListener()).Memory;
        Assert.That(few.Estimate.Sampling, Is.GreaterThan(few.Estimate.Activations), "one answer is trained at a time, and many are sampled");
        Assert.That(few.Needed, Is.EqualTo(few.Estimate.Total));
        Assert.That(few.Estimate.Total - few.Estimate.Program, Is.EqualTo(few.Estimate.Weights + few.Estimate.Adapter + few.Estimate.Optimizer + few.Estimate.Sampling));
    }

    [TestCase("", 0)]
    [TestCase("lmbda: 0.5", 4)]
    public void A_student_that_samples_needs_it_and_one_that_does_not_needs_none(string settings, int texts)
    {
        using var runs = new ComparedRun();
        var config = runs.Config("student", $"type: distill, teacher: '{runs.Teacher}', max_completion_length: 40{(settings.Length > 0 ? $", {settings}" : "")}", rows: "rows.jsonl", overrides: ["training.gradient_accumulation_steps=2"]);
        var draft = RunDraft.Read(config, new SilentListener());
        var model = OpenWeights.Tune.Models.Weights.ModelLoader.ReadConfig(draft.Folder);
        var cache = texts * model.LayerCount * 2L * model.KeyValueHeadCount * model.HeadDimension * 64 * sizeof(float);
        Assert.That(draft.Memory.Estimate.Sampling, texts == 0 ? Is.Zero : Is.InRange(cache, 2 * cache));

        // Its answers are among the rows that are trained.
        var plain = RunDraft.Read(config with { Objective = config.Objective with { Lmbda = 0 } }, new SilentListener()).Memory.Estimate;
        Assert.That(draft.Memory.Estimate.Activations, texts == 0 ? Is.EqualTo(plain.Activations) : Is.GreaterThan(plain.Activations));
    }

    [Test]
    public void Other_objectives_need_none()
    {
        using var folder = new TemporaryFolder();
        Assert.That(RunDraft.Read(Config(folder, "type: sft", "micro_batch_size: 8", ""), new SilentListener()).Memory.Estimate.Sampling, Is.Zero);
    }

    private static RunConfig Config(TemporaryFolder folder, string objective, string training, string eval) => RunConfigFile.Read(
        folder.Write("train.yaml", $$"""
            output_dir: '{{folder.At("out")}}'
            model: { path: '{{s_quickstart}}/base', dtype: float32, device: cpu }
            adapter: { r: 4, lora_alpha: 8 }
            data: { train: [ { path: '{{s_quickstart}}/train.jsonl', limit: 64 } ], {{(eval.Length > 0 ? $"eval: [ {{ path: '{s_quickstart}/eval.jsonl', limit: 8 }} ]," : "")}} max_length: 128, packing: false }
            objective: { {{objective}}{{(objective.Contains("grpo", StringComparison.Ordinal) || objective.Contains("rloo", StringComparison.Ordinal) ? ", max_completion_length: 100" : "")}} }
            training: { max_steps: 2, {{training}} }
            """), []);
}
