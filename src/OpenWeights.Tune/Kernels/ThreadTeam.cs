using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Threads for work in many short stages, for which dispatching each stage to a thread pool would take longer than the stage. Each
/// thread takes the parts of a range of its own in order, so that what it reads follows what it read before, and then the last ones of
/// other ranges, so that a delayed thread, or one without a processor of its own, does not block the others. Between two jobs the
/// threads spin for a moment, then sleep.
/// </summary>
internal sealed class ThreadTeam
{
    // How long a thread spins while waiting for work, and how long it then waits yielding to others before it sleeps.
    private static readonly long s_closely = Stopwatch.Frequency / 50_000;
    private static readonly long s_loosely = Stopwatch.Frequency / 5_000;

    // The current stage, counted over all jobs, and its number of parts, packed into one number; and for each thread the stage, the next part of its range and
    // the end, exclusive, so that a part is taken together with its stage.
    private const int StageShift = 32;
    private const int PartBits = 16;
    private const ulong PartMask = (1 << PartBits) - 1;

    // Ranges of threads are in cache lines of their own, of which processors fetch two.
    private const int RangeStride = 16;

    private readonly Lock _leading = new();
    private readonly object _sleep = new();
    private ulong _ticket;
    private ulong[] _ranges = new ulong[RangeStride];
    private int _done;
    private int _sleepers;
    private int _members;
    private volatile int _wanted;
    private volatile bool _works;
    private IStagedWork? _work;
    private uint _first;
    private volatile Exception? _failure;

    /// <summary>The process-wide team.</summary>
    internal static ThreadTeam Shared { get; } = new();

    /// <summary>Runs a job on the calling thread and others; only on the calling thread if the others are busy with another job.</summary>
    /// <param name="work">The job.</param>
    /// <param name="threads">Maximum number of threads.</param>
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

        if (_ranges.Length < (helpers + 2) * RangeStride)
        {
            _ranges = new ulong[(helpers + 2) * RangeStride];
        }

        (_work, _failure, _first) = (work, null, Stage(Volatile.Read(ref _ticket)) + 1);
        (_wanted, _works) = (helpers, true);
        var end = _first + (uint)work.Stages;
        Open(work, -1);
        Wake();
        for (var ticket = Volatile.Read(ref _ticket); Stage(ticket) != end; ticket = Volatile.Read(ref _ticket))
        {
            if (!TakeParts(ticket, 0))
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
            if (mine && TakeParts(ticket, number + 1))
            {
                continue;
            }

            // Stages follow each other soon; another job may not.
            while (mine && !Changes(Stage(ticket), s_loosely) && _works)
            {
            }

            if (!mine || !_works)
            {
                Sleep(Stage(ticket));
            }
        }
    }

    // Runs parts of the current stage until all are taken; false if they were.
    private bool TakeParts(ulong ticket, int thread)
    {
        // A thread that is late may find the ranges of an earlier job.
        var (ranges, done) = (_ranges, 0);
        var threads = Math.Min(_wanted + 1, (ranges.Length / RangeStride) - 1);
        for (var i = 0; i < threads; i++)
        {
            ref var range = ref ranges[(((thread + i) % threads) + 1) * RangeStride];
            for (var part = Take(ref range, Stage(ticket), isFirst: i == 0); part >= 0; part = Take(ref range, Stage(ticket), isFirst: i == 0))
            {
                Attempt(_work!, (int)(Stage(ticket) - _first), part);
                done++;
            }
        }

        if (done == 0)
        {
            return false;
        }

        // The job can be over as soon as the parts are counted.
        var (work, stage) = (_work!, (int)(Stage(ticket) - _first));
        if (Interlocked.Add(ref _done, done) == (int)Parts(ticket))
        {
            Open(work, stage);
        }
        else
        {
            work.Fetch(stage + 1, thread, threads);
        }

        return true;
    }

    // The first or last part of a range that is left; -1 if there is none, or another stage has begun.
    private static int Take(ref ulong range, uint stage, bool isFirst)
    {
        while (true)
        {
            var found = Volatile.Read(ref range);
            var (next, end) = ((int)(found & PartMask), (int)((found >> PartBits) & PartMask));
            if (Stage(found) != stage || next >= end)
            {
                return -1;
            }

            var left = isFirst ? found + 1 : found - (1 << PartBits);
            if (Interlocked.CompareExchange(ref range, left, found) == found)
            {
                return isFirst ? next : end - 1;
            }
        }
    }

    // Runs a part. A failure ends the job and is rethrown by the caller's Run.
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

    // Starts the first nonempty stage after a given one (-1 before the first), or ends the job.
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
        var (opened, threads) = ((ulong)(_first + (uint)next) << StageShift, _wanted + 1);
        for (var i = 0; i < threads; i++)
        {
            var (start, end) = ((uint)(parts * i / threads), (uint)(parts * (i + 1) / threads));
            Volatile.Write(ref _ranges[(i + 1) * RangeStride], opened + ((ulong)end << PartBits) + start);
        }

        _ = Interlocked.Exchange(ref _ticket, opened + (uint)parts);
    }

    // Waits for the next stage; false if none started within some ticks.
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

    // A thread that falls asleep first increments the counter and then checks the ticket again, so that one side always sees the other.
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

    private static ulong Parts(ulong ticket) => ticket & PartMask;
}

/// <summary>
/// A job of several stages, each of which needs all results of the previous one. It is run by a <see cref="ThreadTeam"/>.
/// </summary>
internal interface IStagedWork
{
    /// <summary>Number of stages.</summary>
    int Stages { get; }

    /// <summary>Number of parts of a stage, below 2^15; 0 for an empty stage.</summary>
    /// <param name="stage">The stage.</param>
    int Parts(int stage);

    /// <summary>Runs a part of a stage, in parallel with other parts.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="part">The part.</param>
    void Run(int stage, int part);

    /// <summary>Fetches what a thread reads first in a stage, or in the next one that reads anything, into its cache: it has nothing else to do until the stage begins.</summary>
    /// <param name="stage">The stage.</param>
    /// <param name="thread">Index of the thread.</param>
    /// <param name="threads">Number of threads.</param>
    void Fetch(int stage, int thread, int threads)
    {
        // Not all work knows what it reads.
    }

    /// <summary>Runs on one thread after all parts of a stage, before the next stage starts.</summary>
    /// <param name="stage">The stage.</param>
    void Finish(int stage);
}
