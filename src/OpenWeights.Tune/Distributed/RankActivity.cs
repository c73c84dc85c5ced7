namespace OpenWeights.Tune.Distributed;

/// <summary>
/// What a rank does with the others: its operations are numbered as they begin, so ranks that do not do the same are found; and when it last got on, so
/// that one that is stuck is found. An engine and a channel share it.
/// </summary>
/// <param name="stall">A rank counts as stuck after this long without getting on, or longer if it was longer on its way before; zero for never.</param>
/// <param name="clock">Milliseconds since some time; null for the machine's.</param>
/// <param name="signs">Reads what the process has done up to now; null, or a result of null, where that is unknown.</param>
internal sealed class RankActivity(TimeSpan stall, Func<long>? clock = null, Func<ProcessSigns?>? signs = null)
{
    // Ranks are at most a few operations apart.
    private const int Remembered = 32;

    // A process that stood still, with its machine or by a signal, did not look meanwhile either.
    private const long MostBetweenLooks = 10_000;

    private readonly Lock _gate = new();
    private readonly Queue<string> _last = new();
    private readonly List<(long Number, long Since)> _waits = [];
    private readonly Dictionary<string, Pace> _paces = [];
    private readonly List<Work> _works = [];
    private long _begun;
    private long _marked = clock?.Invoke() ?? Environment.TickCount64;
    private long _looked = clock?.Invoke() ?? Environment.TickCount64;
    private long _quiet;
    private ProcessSigns? _signs;
    private long? _reached;

    /// <summary>Creates the activity of a rank that never counts as stuck.</summary>
    internal RankActivity()
        : this(TimeSpan.Zero)
    {
    }

    /// <summary>Called at each mark with what the rank does; null for nothing.</summary>
    internal Action<string>? Passing { get; set; }

    /// <summary>Notes an operation that begins.</summary>
    /// <param name="label">What it is: "all-reduce of 12 Float32".</param>
    /// <returns>Its number, from 1.</returns>
    internal long Begin(string label)
    {
        lock (_gate)
        {
            Mark();
            _last.Enqueue(label);
            if (_last.Count > Remembered)
            {
                _ = _last.Dequeue();
            }

            return ++_begun;
        }
    }

    /// <summary>Notes that this rank waits for an operation, until the result is disposed.</summary>
    /// <param name="number">The operation's number.</param>
    internal IDisposable Wait(long number)
    {
        var entry = (number, Now);
        lock (_gate)
        {
            Mark();
            _waits.Add(entry);
        }

        return new Ending(this, () => _waits.Remove(entry));
    }

    /// <summary>
    /// Notes that this rank does something, until the result is disposed. The first time shows how long it is on its way between two marks, on this rank or on
    /// another; from then on it counts as stuck after several times that.
    /// </summary>
    /// <param name="kind">What it does: "a step".</param>
    internal IDisposable Do(string kind)
    {
        Work work;
        lock (_gate)
        {
            Mark();
            if (!_paces.TryGetValue(kind, out var pace))
            {
                _paces[kind] = pace = new Pace();
            }

            _works.Add(work = new Work(kind, pace));
        }

        Passing?.Invoke(kind);
        return new Ending(this, () =>
        {
            Mark();
            _ = _works.Remove(work);
            work.Pace!.Complete();
        });
    }

    /// <summary>Notes that this rank waits for something else than the others, which has a limit of its own, until the result is disposed.</summary>
    internal IDisposable Outside()
    {
        var work = new Work("", null);
        lock (_gate)
        {
            Mark();
            _works.Add(work);
        }

        return new Ending(this, () =>
        {
            Mark();
            _ = _works.Remove(work);
        });
    }

    /// <summary>Notes that this rank gets on: an operation, a layer or a micro-batch is done.</summary>
    internal void Progressed()
    {
        string kind;
        lock (_gate)
        {
            Mark();
            kind = Doing?.Kind ?? "";
        }

        Passing?.Invoke(kind);
    }

    /// <summary>Notes that this rank begins some work, such as a micro-batch; more than it had before may take longer.</summary>
    /// <param name="amount">How much it is: its number of tokens.</param>
    internal void Begins(long amount)
    {
        lock (_gate)
        {
            Mark();
            if (Doing?.Pace is { } pace)
            {
                pace.Amount = amount;
            }
        }
    }

    /// <summary>Notes that a GPU has not computed yet what a later operation needs, however many have begun.</summary>
    /// <param name="number">The last operation that it has; null for all that have begun.</param>
    internal void Reaches(long? number)
    {
        lock (_gate)
        {
            _reached = number;
        }
    }

    /// <summary>Looks for signs of work since the last look; called every few seconds.</summary>
    internal void Look()
    {
        var read = signs?.Invoke();
        lock (_gate)
        {
            var now = Now;
            var works = read is null || _signs is null || _waits.Count > 0 || _marked > _looked || IsOutside || read.ShowWork(_signs, now - _looked);
            _quiet = works ? 0 : _quiet + Math.Min(now - _looked, MostBetweenLooks);
            (_looked, _signs) = (now, read);
        }
    }

    /// <summary>What the rank does now.</summary>
    internal RankState Read()
    {
        lock (_gate)
        {
            var (now, wait, doing) = (Now, _waits.Count == 0 ? default : _waits.MinBy(static w => w.Number), Doing);
            var limit = stall > TimeSpan.Zero && doing?.Pace is { IsKnown: true } pace ? pace.Known.Limit(pace.Amount, stall.TotalSeconds) : 0;
            return new RankState(_begun, wait.Number, wait.Number == 0 ? 0 : (int)((now - wait.Since) / 1000), [.. _last])
            {
                Idle = wait.Number != 0 || IsOutside ? 0 : (int)((now - _marked) / 1000),
                IdleLimit = (int)Math.Min(int.MaxValue, Math.Ceiling(limit)),
                Quiet = wait.Number != 0 || _marked >= _looked ? 0 : (int)(_quiet / 1000),
                Kind = doing?.Kind ?? "",
                Reached = Math.Min(_begun, _reached ?? _begun),
                Amount = doing?.Pace?.Amount ?? 0,
                Paces = _paces.ToDictionary(static p => p.Key, static p => p.Value.UpToNow),
            };
        }
    }

    private long Now => clock?.Invoke() ?? Environment.TickCount64;

    private Work? Doing => _works.Count == 0 ? null : _works[^1];

    private bool IsOutside => Doing is { Pace: null };

    private void Mark()
    {
        var now = Now;
        if (_waits.Count == 0 && Doing?.Pace is { } pace)
        {
            pace.Longest = Math.Max(pace.Longest, now - _marked);
        }

        _marked = now;
    }

    // What is done; without a pace if it waits for something else than the others.
    private sealed record Work(string Kind, Pace? Pace);

    // How fast this rank gets on in what it does.
    private sealed class Pace
    {
        private long _largest;

        // Milliseconds between two marks.
        internal long Longest { get; set; }

        internal bool IsKnown { get; private set; }

        internal long Amount { get; set; }

        internal RankPace Known => new(Longest, Math.Max(1, _largest));

        internal RankPace UpToNow => new(Longest, Math.Max(_largest, Amount));

        internal void Complete() => (IsKnown, _largest) = (true, Math.Max(_largest, Amount));
    }

    private sealed class Ending(RankActivity activity, Action end) : IDisposable
    {
        private Action? _end = end;

        public void Dispose()
        {
            lock (activity._gate)
            {
                _end?.Invoke();
                (_end, activity._marked) = (null, activity.Now);
            }
        }
    }
}
