using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>
/// The one thread that calls MPI. It starts operations in the order in which they were given, several at a time, and looks after them while
/// the others compute: at first again and again, then with pauses, since the cores are needed.
/// </summary>
internal sealed partial class MpiThread : IDisposable
{
    // A message within a machine takes some microseconds; a pause of 50 us takes about 100. Where nobody waits, each look takes a core from who computes.
    private const int Looks = 64;
    private const int LooksBeside = 2;
    private const uint PauseMicroseconds = 50;
    private const uint PauseBeside = 400;
    private const int Tags = 15000;

    private readonly BlockingCollection<MpiPending> _given = [];
    private readonly Thread _thread;
    private readonly MpiLibrary _mpi;
    private readonly TaskCompletionSource _started = new();
    private Exception? _failure;
    private int _waiters;
    private volatile bool _isGivenUp;

    internal MpiThread(MpiLibrary mpi, TimeSpan limit)
    {
        _mpi = mpi;
        _thread = new Thread(Run) { IsBackground = true, Name = "mpi" };
        _thread.Start();
        if (!_started.Task.Wait(limit))
        {
            throw new RankFailedException($"{mpi.Name} does not start for {limit.TotalSeconds:0} s: another rank did not come that far, or the network does not let MPI pass ({RankLimits.StartVariable} is the limit in seconds).");
        }

        if (_failure is { } failure)
        {
            throw new RankFailedException($"{mpi.Name} does not start: {failure.Message}.", failure);
        }
    }

    internal int Rank { get; private set; }

    internal int Size { get; private set; }

    /// <summary>Waits for an operation, which advances faster meanwhile.</summary>
    /// <param name="pending">The operation.</param>
    /// <param name="limit">For how long.</param>
    /// <param name="cancelled">Ends the waiting.</param>
    /// <returns>Whether it is over.</returns>
    internal bool Wait(MpiPending pending, TimeSpan limit, CancellationToken cancelled)
    {
        _ = Interlocked.Increment(ref _waiters);
        try
        {
            return pending.Wait(limit, cancelled);
        }
        finally
        {
            _ = Interlocked.Decrement(ref _waiters);
        }
    }

    internal void Give(MpiPending pending) => _given.Add(pending);

    /// <summary>Ends MPI together with the other ranks; after a failure, without them.</summary>
    /// <param name="failed">Cancelled when a rank failed.</param>
    internal void End(CancellationToken failed)
    {
        const int seconds = 30;
        _isGivenUp = failed.IsCancellationRequested;
        _given.CompleteAdding();
        for (var i = 0; i < seconds * 10 && !failed.IsCancellationRequested && !_thread.Join(100); i++)
        {
        }
    }

    public void Dispose()
    {
        if (!_thread.IsAlive)
        {
            _given.Dispose();
        }
    }

    private void Run()
    {
        try
        {
            _mpi.Initialize();
            (Rank, Size) = (_mpi.Rank, _mpi.Size);
        }
        catch (Exception e) when (e is MpiException or RankFailedException)
        {
            _failure = e;
            return;
        }
        finally
        {
            _started.SetResult();
        }

        var (active, tag, idle) = (new List<MpiPending>(), 0, 0);
        MpiException? broken = null;
        while (!_isGivenUp && Take(active, out var given))
        {
            if (given is not null)
            {
                active.Add(given);
                broken ??= Try(() => given.Operation.Begin(tag));
                tag = (tag + 2) % (2 * Tags);
                idle = 0;
            }

            var changed = false;
            for (var i = 0; i < active.Count && broken is null; i++)
            {
                var pending = active[i];
                broken = Try(() => changed |= pending.Operation.Advance());
                if (broken is null && pending.Operation.IsDone)
                {
                    active.RemoveAt(i--);
                    pending.Operation.Free();
                    pending.Complete(null);
                    changed = true;
                }
            }

            if (broken is not null)
            {
                // MPI may still write to where it was to receive: it is not called again, and nothing is freed.
                active.ForEach(p => p.Complete(broken));
                active.Clear();
                continue;
            }

            idle = changed ? 0 : idle + 1;
            var isAwaited = Volatile.Read(ref _waiters) > 0;
            if (idle > (isAwaited ? Looks : LooksBeside))
            {
                _ = usleep(isAwaited ? PauseMicroseconds : PauseBeside);
            }
            else if (idle > 0)
            {
                _ = Thread.Yield();
            }
        }

        if (!_isGivenUp && broken is null)
        {
            _mpi.End();
        }
    }

    // The next operation; waits for one where none is active. False when there will be none.
    private bool Take(List<MpiPending> active, out MpiPending? given)
    {
        if (active.Count > 0)
        {
            _ = _given.TryTake(out given);
            return true;
        }

        return _given.TryTake(out given, Timeout.Infinite);
    }

    private static MpiException? Try(Action action)
    {
        try
        {
            action();
            return null;
        }
        catch (MpiException e)
        {
            return e;
        }
    }

    [LibraryImport("libc")]
    private static partial int usleep(uint microseconds);
}

/// <summary>An operation given to MPI's thread.</summary>
internal sealed class MpiPending(MpiOperation operation)
{
    private readonly TaskCompletionSource<MpiException?> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal MpiOperation Operation => operation;

    /// <summary>Whether it is complete or has failed.</summary>
    internal bool IsOver => _end.Task.IsCompleted;

    /// <summary>MPI's error, if it failed.</summary>
    internal MpiException? Failure => _end.Task.Result;

    internal bool Wait(TimeSpan limit, CancellationToken cancelled)
    {
        try
        {
            return _end.Task.Wait(limit, cancelled);
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    internal void Complete(MpiException? failure) => _ = _end.TrySetResult(failure);
}
