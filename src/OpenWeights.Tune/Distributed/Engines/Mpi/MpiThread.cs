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

    // Tags are below 2^15, which any MPI allows: 256 operations in a row, of which fewer are active at a time, 64 marks of what they are, and two for each.
    private const int Numbers = 256;
    private const int MostActive = 64;

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

        var (active, number, idle) = (new List<MpiPending>(), 0, 0);
        MpiException? broken = null;
        while (!_isGivenUp && Take(active, out var given))
        {
            if (given is not null)
            {
                active.Add(given);
                var tag = 2 * ((number * MpiPending.Marks) + given.Mark);
                broken ??= Try(() => given.Operation.Begin(tag));
                number = (number + 1) % Numbers;
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
        if (active.Count >= MostActive)
        {
            given = null;
            return true;
        }

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
/// <param name="operation">The operation.</param>
/// <param name="label">What it is: "all-reduce of 12 Float32".</param>
internal sealed class MpiPending(MpiOperation operation, string label)
{
    /// <summary>Number of marks.</summary>
    internal const int Marks = 64;

    private readonly TaskCompletionSource<MpiException?> _end = new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal MpiOperation Operation => operation;

    /// <summary>
    /// A number of what it is, the same on all ranks. Messages of ranks that do something else than each other must not meet: where a longer one comes than is
    /// expected, some MPIs write behind the memory for it.
    /// </summary>
    internal int Mark { get; } = (int)(label.Aggregate(2166136261u, static (hash, c) => (hash ^ c) * 16777619) % Marks);

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
