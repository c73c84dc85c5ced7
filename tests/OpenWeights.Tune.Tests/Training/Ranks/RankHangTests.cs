using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>A rank that hangs in any part of a run ends it on all ranks, with a sentence that names it and what it did; what was saved is whole.</summary>
[TestFixture]
public sealed class RankHangTests
{
    private static readonly TimeSpan s_soon = TimeSpan.FromSeconds(60);

    [TestCase(0, "reading the data", "sleep")]
    [TestCase(1, "loading the model", "sleep")]
    [TestCase(0, "loading the model", "spin")]
    [TestCase(1, "a step", "sleep")]
    [TestCase(0, "a step", "spin")]
    [TestCase(1, "the evaluation", "sleep")]
    [TestCase(0, "the evaluation", "spin")]
    [TestCase(1, "generating answers", "sleep")]
    [TestCase(0, "writing a checkpoint", "sleep")]
    [TestCase(0, "writing the result", "sleep")]
    public void A_rank_that_hangs_is_named_with_what_it_does(int rank, string doing, string how)
    {
        using var folder = new TemporaryFolder();
        var config = RankRun.Config(folder, "run", rows: 27);
        config = config with
        {
            Data = config.Data with { EvalFraction = 0.3 },
            Evaluation = config.Evaluation with { EverySteps = 2, GenerateRows = 2, MaxNewTokens = 4 },
            Checkpoint = config.Checkpoint with { EverySteps = 2 },
        };
        if (doing == "generating answers")
        {
            // These rows have prompts.
            var quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");
            config = config with { Model = config.Model with { Path = Path.Combine(quickstart, "base") }, Data = new DataSection { Train = [new DataSource { Path = Path.Combine(quickstart, "train.jsonl") }], Packing = false } };
        }

        var yaml = folder.Write("run.yaml", ConfigWriter.Write(config));
        using (var processes = RankProcesses.Start("openmpi", 2, "train", (RankTraining.ConfigVariable, yaml), (RankTraining.HangVariable, $"{rank} {doing}:{how}"), (RankLimits.StallVariable, "3"), (RankLimits.SilenceVariable, "6")))
        {
            WaitFor(processes, "hangs", 2 * s_soon);
            WaitFor(processes, $"error: rank {rank} ({Environment.MachineName}) lives, but has not got on for ", s_soon);
            Assert.That(processes.Output, Does.Contain($"it is stuck in {doing}"));
        }

        if (doing.StartsWith("writing", StringComparison.Ordinal))
        {
            Assert.That(RankProcesses.Run("openmpi", 2, "train", (RankTraining.ConfigVariable, yaml), (RankTraining.ResumeVariable, "1")), Does.Contain("rank 0: trained").And.Contain("rank 1: trained"));
            Assert.That(Directory.GetFileSystemEntries(config.OutputDir, ".*.tmp*", SearchOption.AllDirectories), Is.Empty, "nothing half-written stays");
        }
    }

    private static void WaitFor(RankProcesses processes, string text, TimeSpan limit)
    {
        for (var watch = Stopwatch.StartNew(); !processes.Output.Contains(text, StringComparison.Ordinal);)
        {
            Assert.That(watch.Elapsed, Is.LessThan(limit), $"'{text}' did not come\n{processes.Output}");
            Thread.Sleep(50);
        }
    }
}
