using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Threads that do stages of work together, more of them than a machine has processors included.</summary>
public sealed class ThreadTeamTests
{
    [Test]
    public void Every_part_is_done_once_after_all_of_the_stage_before([Values(1, 2, 7)] int threads)
    {
        var random = new Random(threads);
        for (var i = 0; i < 300; i++)
        {
            var work = new CountedWork([.. Enumerable.Range(0, random.Next(6)).Select(_ => random.Next(4) == 0 ? 0 : random.Next(40))]);
            ThreadTeam.Shared.Run(work, threads);
            work.Check();
        }
    }

    [Test]
    public void Works_of_several_threads_are_all_done()
    {
        var works = Enumerable.Range(0, 6).Select(static _ => new CountedWork([20, 0, 30, 7])).ToArray();
        var threads = works.Select(static work => new Thread(() => ThreadTeam.Shared.Run(work, 3))).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        Array.ForEach(works, static w => w.Check());
    }

    [Test]
    public void What_fails_is_thrown_where_the_work_was_asked_for_and_the_next_work_is_done([Values(1, 3)] int threads, [Values] bool atTheEnd)
    {
        var failing = new CountedWork([5, 9, 4]) { FailsIn = 1, FailsAtTheEnd = atTheEnd };
        Assert.That(() => ThreadTeam.Shared.Run(failing, threads), Throws.InvalidOperationException.With.Message.EqualTo("stage 1"));
        var next = new CountedWork([5, 9, 4]);
        ThreadTeam.Shared.Run(next, threads);
        next.Check();
    }

    [Test]
    public void Threads_without_work_sleep()
    {
        var share = 1.0;
        for (var attempt = 0; attempt < 10 && share > 0.2; attempt++)
        {
            ThreadTeam.Shared.Run(new CountedWork([50, 50]), 5);
            Thread.Sleep(5);
            var (before, start) = (Process.GetCurrentProcess().TotalProcessorTime, Stopwatch.GetTimestamp());
            Thread.Sleep(100);
            share = (Process.GetCurrentProcess().TotalProcessorTime - before) / Stopwatch.GetElapsedTime(start);
        }

        Assert.That(share, Is.LessThan(0.2), "processors that are busy while nothing is asked for");
    }

    private sealed class CountedWork(int[] parts) : IStagedWork
    {
        private readonly int[][] _done = Array.ConvertAll(parts, static p => new int[p]);
        private readonly int[] _finished = new int[parts.Length];
        private volatile int _open;

        internal int FailsIn { get; init; } = -1;

        internal bool FailsAtTheEnd { get; init; }

        public int Stages => parts.Length;

        public int Parts(int stage) => parts[stage];

        public void Run(int stage, int part)
        {
            if (stage == FailsIn && part == 3 && !FailsAtTheEnd)
            {
                throw new InvalidOperationException($"stage {stage}");
            }

            Interlocked.Add(ref _done[stage][part], _open == stage ? 1 : 1000);
        }

        public void Finish(int stage)
        {
            if (stage == FailsIn && FailsAtTheEnd)
            {
                throw new InvalidOperationException($"stage {stage}");
            }

            Interlocked.Add(ref _finished[stage], _open == stage && Array.TrueForAll(_done[stage], static d => d == 1) ? 1 : 1000);
            _open = stage + 1;
        }

        internal void Check()
        {
            Assert.That(_done.SelectMany(static d => d), Is.All.EqualTo(1));
            Assert.That(_finished, Is.All.EqualTo(1));
        }
    }
}
