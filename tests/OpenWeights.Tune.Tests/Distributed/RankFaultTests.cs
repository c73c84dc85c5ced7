using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>A rank that dies, hangs or does something else than the others ends all of them soon, with a sentence that names it.</summary>
[TestFixture]
[Parallelizable(ParallelScope.Children)]
public sealed partial class RankFaultTests
{
    private const int Kill = 9;
    private const int Stop = 19;
    private const int Continue = 18;
    private static readonly TimeSpan s_soon = TimeSpan.FromSeconds(60);

    [Test]
    public void A_rank_that_is_killed_ends_all([Values("openmpi", "mpich", "mpich-as-it-is", "nccl")] string engine, [Values(0, 2)] int victim)
    {
        using var processes = Start(engine, "compute");
        var ids = processes.WaitUntilReady(3);
        var watch = Stopwatch.StartNew();
        Assert.That(kill(ids[victim], Kill), Is.Zero);
        RequireEnd(processes, watch);

        Assert.That(processes.Output, Does.Contain(Named(victim, "ended without a word")));
        if (engine != "nccl")
        {
            Assert.That(processes.Output, Does.Contain(Named(victim, "was killed by signal 9")));
        }
    }

    [Test]
    public void A_rank_that_stands_still_ends_all([Values("openmpi", "mpich", "nccl")] string engine, [Values(0, 1)] int victim)
    {
        using var processes = Start(engine, "compute", (RankLimits.SilenceVariable, "3"));
        var ids = processes.WaitUntilReady(3);
        var watch = Stopwatch.StartNew();
        Assert.That(kill(ids[victim], Stop), Is.Zero);
        while (!processes.Output.Contains("gave no sign of life for 3 s", StringComparison.Ordinal))
        {
            Assert.That(watch.Elapsed, Is.LessThan(s_soon), processes.Output);
            Thread.Sleep(50);
        }

        // So that it can end too.
        _ = kill(ids[victim], Continue);
        RequireEnd(processes, watch);
        Assert.That(processes.Output, Does.Contain(Named(victim, "gave no sign of life for 3 s: it is stopped, or the network")));
    }

    [TestCase("throw", "rank 2 ({0}) failed: its file rows.jsonl is not there")]
    [TestCase("throw-first", "rank 0 ({0}) failed: its file rows.jsonl is not there")]
    [TestCase("differ", "the config is not the same on all ranks: lr: 1 on ranks 0, 1 ({0}); lr: 2 on rank 2 ({0}).")]
    [TestCase("other-operation", "ranks must do the same, but rank 0 ({0}) began all-reduce of 1000 Float32 as operation ")]
    [TestCase("other-dtype", "ranks must do the same, but rank 0 ({0}) began all-reduce of 1000 Float32 as operation N, and rank 2 ({0}) began all-reduce of 1000 Float64.")]
    [TestCase("stuck", "rank 2 ({0}) lives, but has not got on for ")]
    [TestCase("stuck-first", "rank 0 ({0}) lives, but has not got on for ")]
    [TestCase("spin", "rank 2 ({0}) lives, but has not got on for ")]
    [TestCase("spin-first", "rank 0 ({0}) lives, but has not got on for ")]
    [TestCase("leave", "rank 2 ({0}) ended its run, while rank ")]
    [TestCase("leave-first", "rank 0 ({0}) ended its run, while rank ")]
    [TestCase("sleep", "rank 2 ({0}) did not come to operation ")]
    [TestCase("sleep-first", "rank 0 ({0}) did not come to operation ")]
    public void A_rank_that_fails_or_does_something_else_is_named_by_all_others(string scenario, string sentence)
    {
        foreach (var engine in new[] { "openmpi", "nccl" })
        {
            using var processes = Start(engine, scenario, (RankLimits.SilenceVariable, "6"), (RankLimits.OperationVariable, scenario.StartsWith("sleep", StringComparison.Ordinal) ? "4" : "100"), (RankLimits.StallVariable, scenario.StartsWith("sleep", StringComparison.Ordinal) ? "100" : "2"));
            var watch = Stopwatch.StartNew();
            _ = processes.WaitUntilReady(3);
            if (scenario.Split('-')[0] is "sleep" or "stuck" or "spin")
            {
                // Nothing ends the one that hangs, at once.
                WaitFor(processes, "error: " + string.Format(System.Globalization.CultureInfo.InvariantCulture, sentence, Environment.MachineName), watch);
                continue;
            }

            RequireEnd(processes, watch);

            // Engines begin with some operations of their own.
            var told = OperationNumber().Replace(processes.Output, "operation N").Split("error: " + string.Format(System.Globalization.CultureInfo.InvariantCulture, sentence, Environment.MachineName)).Length - 1;
            Assert.That(told, Is.EqualTo(scenario.StartsWith("leave", StringComparison.Ordinal) ? 2 : 3), $"on how many ranks, {engine}\n{processes.Output}");
        }
    }

    private static void WaitFor(RankProcesses processes, string text, Stopwatch watch)
    {
        while (!processes.Output.Contains(text, StringComparison.Ordinal))
        {
            Assert.That(watch.Elapsed, Is.LessThan(s_soon), processes.Output);
            Thread.Sleep(50);
        }
    }

    private static RankProcesses Start(string engine, string scenario, params (string Name, string Value)[] variables)
    {
        if (engine != "nccl")
        {
            return RankProcesses.Start(engine, 3, scenario, variables);
        }

        var (library, port) = (NcclEngineTests.StandInLibrary(), NcclEngineTests.FreePort());
        return RankProcesses.StartPlain(3, $"{scenario} --gpu", static _ => [], _ => [.. NcclEngineTests.Variables(library, hasStreams: true, port), .. variables]);
    }

    private static string Named(int rank, string what) => $"error: rank {rank} ({Environment.MachineName}) {what}";

    private static void RequireEnd(RankProcesses processes, Stopwatch watch)
    {
        Assert.That(processes.WaitForExit(), Is.Not.Zero, processes.Output);
        Assert.That(watch.Elapsed, Is.LessThan(s_soon), processes.Output);
    }

    [GeneratedRegex(@"operation \d+")]
    private static partial Regex OperationNumber();

    [LibraryImport("libc")]
    private static partial int kill(int process, int signal);
}
