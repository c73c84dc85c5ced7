using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>References: computed before, following the policy, or none.</summary>
public sealed class ReferenceRunTests
{
    private const string Adapter = "{ r: 4, lora_alpha: 8 }";

    [TestCase("type: dpo", Adapter)]
    [TestCase("type: dpo, reference: base, ld_alpha: 0.5", Adapter)]
    [TestCase("type: dpo", "")]
    [TestCase("type: kto", Adapter)]
    [TestCase("type: bco", Adapter)]
    public void Log_probabilities_computed_before_training_give_the_same_steps(string objective, string adapter)
    {
        using var runs = new ComparedRun();
        var live = ComparedRun.Run(runs.Config("live", objective, adapter));
        var stored = ComparedRun.Run(runs.Config("stored", $"{objective}, precompute_ref_log_probs: true", adapter));
        Assert.That(Directory.GetFiles(runs.At("cache"), "*.logprobs"), Has.Length.EqualTo(1));
        foreach (var (step, expected) in stored.Steps.Zip(live.Steps))
        {
            Assert.That(step.Loss, Is.EqualTo(expected.Loss).Within(2e-5));
            Assert.That(step.GradNorm, Is.EqualTo(expected.GradNorm).Within(0.1).Percent);
        }
    }

    [Test]
    public void An_adapter_that_is_trained_further_has_its_start_stored()
    {
        using var runs = new ComparedRun();
        _ = ComparedRun.Run(runs.Config("first", "type: dpo"));
        var adapter = $"{{ path: '{runs.At("first", "adapter")}' }}";
        var stored = ComparedRun.Run(runs.Config("second", "type: dpo, precompute_ref_log_probs: true", adapter));
        Assert.That(stored.Steps[0].Loss, Is.EqualTo(Math.Log(2)).Within(1e-5), "the policy is the reference");
        var ofBase = ComparedRun.Run(runs.Config("third", "type: dpo, reference: base, precompute_ref_log_probs: true", adapter));
        Assert.That(ofBase.Steps[0].Loss, Is.Not.EqualTo(Math.Log(2)).Within(1e-3));
        Assert.That(Directory.GetFiles(runs.At("cache"), "*.logprobs"), Has.Length.EqualTo(2));
    }

    [TestCase("type: dpo")]
    [TestCase("type: dpo, loss_type: [sigmoid, bco_pair, sft], loss_weights: [0.8, 0.2, 1.0], precompute_ref_log_probs: true")]
    [TestCase("type: orpo")]
    [TestCase("type: cpo, loss_type: simpo")]
    [TestCase("type: kto")]
    [TestCase("type: bco")]
    public void A_run_that_goes_on_is_the_run_that_was_never_stopped(string objective)
    {
        using var runs = new ComparedRun();
        var (straight, stopped) = runs.Both(objective);
        Assert.That(stopped.Metrics, Is.EqualTo(straight.Metrics));
        Assert.That(stopped.Result, Is.EqualTo(straight.Result));
    }

    [TestCase(Adapter)]
    [TestCase("")]
    public void A_reference_that_follows_with_all_its_weight_is_the_policy_at_each_step(string adapter)
    {
        using var runs = new ComparedRun();
        var followed = ComparedRun.Run(runs.Config("followed", "type: dpo, sync_ref_model: true, ref_model_sync_steps: 1, ref_model_mixup_alpha: 1", adapter));
        Assert.That(followed.Steps.Select(static s => s.Loss), Is.All.EqualTo(Math.Log(2)).Within(1e-6));
        Assert.That(followed.Steps.Select(static s => s.Objective["rewards/margins"]), Is.All.EqualTo(0).Within(1e-5));
        Assert.That(File.ReadAllText(runs.At("followed", "report.html")), Does.Contain("Margin of the rewards").And.Contain("Log-probabilities of answers").And.Not.Contain("Agreement with the teacher"));
    }

    [TestCase(Adapter)]
    [TestCase("")]
    public void A_reference_that_follows_mixes_its_weights_and_goes_on_from_a_checkpoint(string adapter)
    {
        using var runs = new ComparedRun();
        var (straight, stopped) = runs.Both("type: dpo, sync_ref_model: true, ref_model_sync_steps: 3, ref_model_mixup_alpha: 0.6", adapter);
        Assert.That(stopped.Metrics, Is.EqualTo(straight.Metrics));
        Assert.That(stopped.Result, Is.EqualTo(straight.Result));

        // After six steps: 0.6 x policy + 0.4 x what it was after three.
        using var before = SafetensorsFile.Open(runs.At("straight", "checkpoints", "step-00000003", "reference.safetensors"));
        using var after = SafetensorsFile.Open(runs.At("straight", "checkpoints", "step-00000006", "reference.safetensors"));
        var weights = adapter.Length > 0 ? "adapter_model.safetensors" : "model.safetensors";
        using var policy = SafetensorsFile.Open(runs.At("straight", "checkpoints", "step-00000006", "weights", weights));
        foreach (var name in policy.Tensors.Select(static t => t.Name))
        {
            using var scope = NewDisposeScope();
            var own = after.Tensors.First(t => name.EndsWith(t.Name, StringComparison.Ordinal) || t.Name.EndsWith(name, StringComparison.Ordinal)).Name;
            var expected = TensorFiles.Read(policy, name).mul(0.6).add(TensorFiles.Read(before, own).mul(0.4));
            Assert.That(Golden.LargestDifference(TensorFiles.Read(after, own), expected), Is.LessThan(1e-6), name);
        }
    }

    [Test]
    public void A_reference_follows_as_seldom_as_it_is_told_to()
    {
        using var runs = new ComparedRun();
        var plain = ComparedRun.Run(runs.Config("plain", "type: dpo"));
        var late = ComparedRun.Run(runs.Config("late", "type: dpo, sync_ref_model: true, ref_model_sync_steps: 4"));
        Assert.That(late.Steps.Take(4).Select(static s => s.Loss), Is.EqualTo(plain.Steps.Take(4).Select(static s => s.Loss)).Within(1e-6));
        Assert.That(late.Steps[4].Loss, Is.Not.EqualTo(plain.Steps[4].Loss).Within(1e-4));
    }

    [Test]
    public void Without_a_reference_dpo_is_cpo_without_its_likelihood()
    {
        using var runs = new ComparedRun();
        var dpo = ComparedRun.Run(runs.Config("dpo", "type: dpo, reference_free: true"));
        var cpo = ComparedRun.Run(runs.Config("cpo", "type: cpo, cpo_alpha: 0"));
        Assert.That(dpo.Steps.Select(static s => s.Loss), Is.EqualTo(cpo.Steps.Select(static s => s.Loss)).Within(1e-6));
    }

    [Test]
    public void A_pair_is_two_labelled_answers()
    {
        using var runs = new ComparedRun();
        var labelled = File.ReadLines(runs.At("pairs.jsonl")).Select(static l => System.Text.Json.Nodes.JsonNode.Parse(l)!).SelectMany(static p => new[] { ("chosen_ids", "true"), ("rejected_ids", "false") }.Select(a =>
            $$"""{"prompt_ids":{{p["prompt_ids"]!.ToJsonString()}},"completion_ids":{{p[a.Item1]!.ToJsonString()}},"label":{{a.Item2}}}"""));
        _ = runs.Write("labels.jsonl", string.Join('\n', labelled) + "\n");
        var ofPairs = ComparedRun.Run(runs.Config("pairs", "type: kto"));
        var ofLabels = ComparedRun.Run(runs.Config("labels", "type: kto", rows: "labels.jsonl"));
        Assert.That(ofPairs.Steps.Select(static s => s.Loss), Is.EqualTo(ofLabels.Steps.Select(static s => s.Loss)));
        Assert.That(ofPairs.Warnings, Is.EqualTo(ofLabels.Warnings));
    }
}
