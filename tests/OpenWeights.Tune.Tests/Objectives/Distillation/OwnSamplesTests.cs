using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>Distillation on answers that the student samples.</summary>
public sealed class OwnSamplesTests
{
    private static string Objective(ComparedRun runs, string more) => $"type: distill, teacher: '{runs.Teacher}', max_completion_length: 8, {more}";

    [TestCase("lmbda: 0.5")]
    [TestCase("lmbda: 0, teacher_top_k: 4, beta: 0")]
    [TestCase("seq_kd: true")]
    [TestCase("seq_kd: true, lmbda: 0.5")]
    [TestCase("seq_kd: true, teacher_top_k: 4, beta: 0")]
    public void A_run_that_goes_on_is_the_run_that_was_never_stopped(string settings)
    {
        using var runs = new ComparedRun();
        var (straight, stopped) = runs.Both(Objective(runs, settings), rows: "rows.jsonl");
        Assert.That(stopped.Metrics, Is.EqualTo(straight.Metrics));
        Assert.That(stopped.Result, Is.EqualTo(straight.Result));
    }

    [Test]
    public void A_share_of_the_steps_trains_on_samples_which_are_recorded()
    {
        using var runs = new ComparedRun();
        var half = ComparedRun.Run(runs.Config("half", Objective(runs, "lmbda: 0.5"), rows: "rows.jsonl"));
        Assert.That(half.Steps.Select(static s => s.Objective["on_policy"]).Distinct(), Is.EquivalentTo(new[] { 0.0, 1.0 }));
        var all = ComparedRun.Run(runs.Config("all", Objective(runs, "lmbda: 1"), rows: "rows.jsonl"));
        Assert.That(all.Steps.Select(static s => s.Objective["on_policy"]), Is.All.EqualTo(1));
        Assert.That(all.Steps.Select(static s => s.Objective["completions/max_length"]), Is.All.LessThanOrEqualTo(8));

        // Each sample begins with the prompt of a row, and its answer is not the row's.
        var rows = File.ReadLines(runs.At("rows.jsonl")).Select(static l => JsonNode.Parse(l)!).ToDictionary(
            static r => string.Join(',', r["input_ids"]!.AsArray().Take(r["labels"]!.AsArray().Count(static l => l!.GetValue<int>() == -100))), static r => r["input_ids"]!.AsArray().Count);
        var samples = File.ReadLines(runs.At("all", "samples.jsonl")).Select(static l => JsonNode.Parse(l)!).ToList();
        Assert.That(samples, Has.Count.EqualTo(12), "two rows in each of six steps");
        Assert.That(samples.Select(static s => string.Join(',', s["prompt_ids"]!.AsArray())).Distinct(), Is.SubsetOf(rows.Keys));
        Assert.That(samples.Select(static s => s["completion_ids"]!.ToJsonString()).Distinct().Count(), Is.GreaterThan(10));
    }

    [Test]
    public void Samples_do_not_depend_on_the_micro_batches()
    {
        using var runs = new ComparedRun();
        var one = ComparedRun.Run(runs.Config("one", Objective(runs, "lmbda: 1"), rows: "rows.jsonl", overrides: ["training.micro_batch_size=4"]));
        var several = ComparedRun.Run(runs.Config("several", Objective(runs, "lmbda: 1"), rows: "rows.jsonl", overrides: ["training.micro_batch_size=2", "training.gradient_accumulation_steps=2"]));
        Assert.That(several.Steps.Select(static s => s.Loss), Is.EqualTo(one.Steps.Select(static s => s.Loss)).Within(1e-7));
    }
}
