using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>A run is the same for any number of ranks.</summary>
[TestFixture]
public sealed class RankTrajectoryTests
{
    private static readonly Dictionary<string, Func<RunConfig, RunConfig>> s_runs = new()
    {
        ["lora"] = static c => c,
        ["full"] = static c => c with { Adapter = null },
        ["full, untied, checkpointed"] = static c => c with { Adapter = null, Training = c.Training with { ActivationCheckpointing = "block" } },
        ["dora"] = static c => c with { Adapter = c.Adapter! with { UseDora = true } },
        ["qlora"] = static c => c with { Quantization = new QuantizationSection() },
        ["packed"] = static c => c with { Data = c.Data with { Packing = true, MaxLength = 40 } },
        ["clipped by value"] = static c => c with { Training = c.Training with { MaxGradValue = 0.002 } },
        ["ema"] = static c => c with { Training = c.Training with { Ema = new EmaSection { Decay = 0.9 } } },
    };

    public static IEnumerable<string> Runs => s_runs.Keys;

    [Test]
    public void One_two_and_four_ranks_have_one_trajectory([ValueSource(nameof(Runs))] string name)
    {
        using var folder = new TemporaryFolder();
        if (name.Contains("untied", StringComparison.Ordinal))
        {
            _ = TinyModel.Write(folder, tied: false);
        }

        // 27 rows are three steps of eight and one of three, in two micro-batches: two of four ranks have none.
        var one = RankRun.Of(1, s_runs[name](RankRun.Config(folder, "one", rows: 27)));
        foreach (var ranks in new[] { 2, 4 })
        {
            var several = RankRun.Of(ranks, s_runs[name](RankRun.Config(folder, $"of{ranks}", rows: 27)));
            several.RequireSame(one);
        }
    }

    [Test]
    public void Evaluations_and_the_best_step_are_those_of_one_rank()
    {
        using var folder = new TemporaryFolder();
        RunConfig Config(string name) => RankRun.Config(folder, name) with
        {
            Data = RankRun.Config(folder, name).Data with { Eval = [new DataSource { Path = TinyModel.WriteRows(folder, 11, "eval.jsonl", seed: 5) }] },
            Evaluation = new EvaluationSection { EverySteps = 4, EarlyStoppingPatience = 2, KeepBest = true, GenerateRows = 0 },
        };
        var (one, four) = (RankRun.Of(1, Config("one")), RankRun.Of(4, Config("of4")));
        Assert.Multiple(() =>
        {
            Assert.That(four.Evaluations.Select(static e => e.Loss), Is.EqualTo(one.Evaluations.Select(static e => e.Loss)).Within(1e-5).Percent);
            Assert.That(four.Evaluations.Select(static e => (e.Step, e.TargetTokens)), Is.EqualTo(one.Evaluations.Select(static e => (e.Step, e.TargetTokens))));
            Assert.That(four.Warnings, Is.EqualTo(one.Warnings));
        });
        four.RequireSame(one);
    }

    [TestCase(2, 1)]
    [TestCase(1, 2)]
    [TestCase(2, 4)]
    public void A_stopped_run_goes_on_with_another_number_of_ranks(int before, int after)
    {
        using var folder = new TemporaryFolder();
        var whole = RankRun.Of(1, RankRun.Config(folder, "whole", rows: 27));

        // Any rank may be asked to stop.
        var stopped = RankRun.Of(before, RankRun.Config(folder, "again", rows: 27), stopAfter: 7, stoppedBy: before - 1);
        Assert.That(stopped.Result, Is.Null);
        Assert.That(stopped.Steps, Has.Count.EqualTo(7));
        var resumed = RankRun.Of(after, RankRun.Config(folder, "again", rows: 27), resume: true);
        (resumed with { Steps = [.. stopped.Steps, .. resumed.Steps] }).RequireSame(whole);
    }
}
