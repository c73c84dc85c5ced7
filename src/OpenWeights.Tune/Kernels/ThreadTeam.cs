using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Threads that do many short stages of work together, where handing each stage to a pool of threads would take longer than the stage. Each
/// thread takes the next part that nobody has taken, so one that is late, or has no processor of its own, holds nobody up. Between two works
/// they watch for the next for a moment, and then sleep.
/// </summary>
internal sealed class ThreadTeam
{
    // How long a thread looks for work without pause, and how long it goes on looking, giving way to others, before it sleeps.
    private static readonly long s_closely = Stopwatch.Frequency / 50_000;
    private static readonly long s_loosely = Stopwatch.Frequency / 5_000;

    // The stage that is open, counted over all works; its number of parts; and the next part. One number, so that a part is of the stage
    // that it was taken from.
    private const int StageShift = 32;
    private const int PartBits = 16;
    private const ulong PartMask = (1 << PartBits) - 1;

    private readonly Lock _leading = new();
    private readonly object _sleep = new();
    private ulong _ticket;
    private int _done;
    private int _sleepers;
    private int _members;
    private volatile int _wanted;
    private volatile bool _works;
    private IStagedWork? _work;
    private uint _first;
    private volatile Exception? _failure;

    /// <summary>The program's team.</summary>
    internal static ThreadTeam Shared { get; } = new();

    /// <summary>Does some work, on the calling thread and others; on the calling thread alone where the others are at work for someone else.</summary>
    /// <param name="work">The work.</param>
    /// <param name="threads">How many threads work on it at most.</param>
    internal void Run(IStagedWork work, int threads)
    {
        if (threads <= 1 || !_leading.TryEnter())
        {
            RunAlone(work);
            return;
        }

        try
        {
            Lead(work, threads - 1);
        }
        finally
        {
            _leading.Exit();
        }
    }

    private static void RunAlone(IStagedWork work)
    {
        for (var stage = 0; stage < work.Stages; stage++)
        {
            var parts = work.Parts(stage);
            for (var part = 0; part < parts; part++)
            {
                work.Run(stage, part);
            }

            work.Finish(stage);
        }
    }

    private void Lead(IStagedWork work, int helpers)
    {
        for (; _members < helpers; _members++)
        {
            var number = _members;
            new Thread(() => Help(number)) { IsBackground = true, Name = $"OpenWeights.Tune {number + 1}" }.Start();
        }

        (_work, _failure, _first) = (work, null, Stage(Volatile.Read(ref _ticket)) + 1);
        (_wanted, _works) = (helpers, true);
        var end = _first + (uint)work.Stages;
        Open(work, -1);
        Wake();
        for (var ticket = Volatile.Read(ref _ticket); Stage(ticket) != end; ticket = Volatile.Read(ref _ticket))
        {
            if (!TakePart(ticket))
            {
                _ = Changes(Stage(ticket), long.MaxValue);
            }
        }

        (_works, _work) = (false, null);
        if (_failure is { } failure)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    private void Help(int number)
    {
        while (true)
        {
            var ticket = Volatile.Read(ref _ticket);
            var mine = number < _wanted;
            if (mine && TakePart(ticket))
            {
                continue;
            }

            // A stage soon follows on another; a work on another perhaps.
            while (mine && !Changes(Stage(ticket), s_loosely) && _works)
            {
            }

            if (!mine || !_works)
            {
                Sleep(Stage(ticket));
            }
        }
    }

    // Does a part of the stage that is open; false where all are taken.
    private bool TakePart(ulong ticket)
    {
        if (Next(ticket) >= Parts(ticket))
        {
            return false;
        }

        ticket = Interlocked.Increment(ref _ticket) - 1;
        if (Next(ticket) >= Parts(ticket))
        {
            return false;
        }

        var (work, stage) = (_work!, (int)(Stage(ticket) - _first));
        Attempt(work, stage, (int)Next(ticket));
        if (Interlocked.Increment(ref _done) == (int)Parts(ticket))
        {
            Open(work, stage);
        }

        return true;
    }

    // Does a part. A failure ends the work, and is thrown where the work was asked for.
    private void Attempt(IStagedWork work, int stage, int part)
    {
        if (_failure is not null)
        {
            return;
        }

        try
        {
            work.Run(stage, part);
        }
        catch (Exception failure)
        {
            _failure = failure;
        }
    }

    // Opens the first stage after one that is done (-1 for the first of all) in which there is something to do, or the end.
    private void Open(IStagedWork work, int done)
    {
        var (next, parts) = (work.Stages, 0);
        try
        {
            for (var stage = done; parts == 0 && stage < work.Stages && _failure is null; stage++)
            {
                if (stage >= 0)
                {
                    work.Finish(stage);
                }

                parts = stage + 1 < work.Stages ? work.Parts(stage + 1) : 0;
                next = parts > 0 ? stage + 1 : work.Stages;
            }
        }
        catch (Exception failure)
        {
            (_failure, next, parts) = (failure, work.Stages, 0);
        }

        _done = 0;
        _ = Interlocked.Exchange(ref _ticket, ((ulong)(_first + (uint)next) << StageShift) | ((ulong)parts << PartBits));
    }

    // Waits until another stage is open; false where none was for some ticks.
    private bool Changes(uint stage, long ticks)
    {
        var start = Stopwatch.GetTimestamp();
        while (Stage(Volatile.Read(ref _ticket)) == stage)
        {
            var waited = Stopwatch.GetTimestamp() - start;
            if (waited > ticks)
            {
                return false;
            }

            if (waited < s_closely)
            {
                Thread.SpinWait(2);
            }
            else
            {
                _ = Thread.Yield();
            }
        }

        return true;
    }

    private void Sleep(uint stage)
    {
        lock (_sleep)
        {
            _ = Interlocked.Increment(ref _sleepers);
            while (Stage(Volatile.Read(ref _ticket)) == stage)
            {
                _ = Monitor.Wait(_sleep);
            }

            _ = Interlocked.Decrement(ref _sleepers);
        }
    }

    // Whoever falls asleep counts first and then looks at the ticket once more, so either sees the other.
    private void Wake()
    {
        if (Volatile.Read(ref _sleepers) > 0)
        {
            lock (_sleep)
            {
                Monitor.PulseAll(_sleep);
            }
        }
    }

    private static uint Stage(ulong ticket) => (uint)(ticket >> StageShift);

    private static ulong Parts(ulong ticket) => (ticket >> PartBits) & PartMask;

    private static ulong Next(ulong ticket) => ticket & PartMask;
}

/// <summary>Work of several stages, each of which needs all that the one before it gave. A <see cref="ThreadTeam"/> does it.</summary>
internal interface IStagedWork
{
    /// <summary>The number of stages.</summary>
    int Stages { get; }

    /// <summary>Into how many parts a stage is cut, fewer than 2^15; 0 for a stage that there is nothing to do in.</summary>
    /// <param name="stage">The stage.</param>
    int Parts(int stage);

    /// <summary>Does a part of a stage; threads do parts side by side.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="part">The part.</param>
    void Run(int stage, int part);

    /// <summary>What one thread does when all parts of a stage are done, before the next stage begins.</summary>
    /// <param name="stage">The stage.</param>
    void Finish(int stage);
}
