using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>
/// What a rank does with the others: its operations are numbered as they begin, so ranks that do not do the same are found; and when it last got on, so
/// that one that is stuck is found. An engine and a channel share it.
/// </summary>
/// <param name="stall">A rank counts as stuck after this long without getting on, or longer if it was longer on its way before; zero for never.</param>
/// <param name="clock">Milliseconds since some time; null for the machine's.</param>
internal sealed class RankActivity(TimeSpan stall, Func<long>? clock = null)
{
    // Ranks are at most a few operations apart.
    private const int Remembered = 32;

    // What took some time once may take more the next time: a busy machine, other rows.
    private const int Patience = 5;

    private readonly Lock _gate = new();
    private readonly Queue<string> _last = new();
    private readonly List<(long Number, long Since)> _waits = [];
    private readonly Dictionary<string, Pace> _paces = [];
    private readonly Stack<Pace?> _doing = new();
    private long _begun;
    private long _marked = clock?.Invoke() ?? Environment.TickCount64;

    /// <summary>Creates the activity of a rank that never counts as stuck.</summary>
    internal RankActivity()
        : this(TimeSpan.Zero)
    {
    }

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
    /// Notes that this rank does something, until the result is disposed. The first time shows how long it is on its way between two marks; from then on
    /// it counts as stuck after several times that.
    /// </summary>
    /// <param name="kind">What it does: "step"; null for something that takes as long as it takes.</param>
    internal IDisposable Do(string? kind)
    {
        lock (_gate)
        {
            Mark();
            if (kind is not null && !_paces.ContainsKey(kind))
            {
                _paces[kind] = new Pace();
            }

            _doing.Push(kind is null ? null : _paces[kind]);
        }

        return new Ending(this, () =>
        {
            Mark();
            _doing.Pop()?.Complete();
        });
    }

    /// <summary>Notes that this rank gets on: an operation, a layer or a micro-batch is done.</summary>
    internal void Progressed()
    {
        lock (_gate)
        {
            Mark();
        }
    }

    /// <summary>Notes that this rank begins some work, such as a micro-batch; more than it had before may take longer.</summary>
    /// <param name="amount">How much it is: its number of tokens.</param>
    internal void Begins(long amount)
    {
        lock (_gate)
        {
            Mark();
            if (Doing is { } pace)
            {
                pace.Amount = amount;
            }
        }
    }

    /// <summary>What the rank does now.</summary>
    internal RankState Read()
    {
        lock (_gate)
        {
            var (now, wait) = (Now, _waits.Count == 0 ? default : _waits.MinBy(static w => w.Number));
            var limit = stall > TimeSpan.Zero && Doing is { IsKnown: true } pace ? pace.Scale * Math.Max(stall.TotalSeconds, Patience * pace.Longest / 1000.0) : 0;
            return new RankState(_begun, wait.Number, wait.Number == 0 ? 0 : (int)((now - wait.Since) / 1000), [.. _last])
            {
                Idle = wait.Number == 0 ? (int)((now - _marked) / 1000) : 0,
                IdleLimit = (int)Math.Min(int.MaxValue, Math.Ceiling(limit)),
            };
        }
    }

    private long Now => clock?.Invoke() ?? Environment.TickCount64;

    private Pace? Doing => _doing.TryPeek(out var pace) ? pace : null;

    private void Mark()
    {
        var now = Now;
        if (_waits.Count == 0 && Doing is { } pace)
        {
            pace.Longest = Math.Max(pace.Longest, now - _marked);
        }

        _marked = now;
    }

    // How fast this rank gets on in what it does.
    private sealed class Pace
    {
        private long _largest;

        // Milliseconds between two marks.
        internal long Longest { get; set; }

        internal bool IsKnown { get; private set; }

        internal long Amount { get; set; }

        // Attention takes the square.
        internal double Scale => Amount > _largest ? Math.Pow((double)Amount / Math.Max(1, _largest), 2) : 1;

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

/// <summary>What a rank does.</summary>
/// <param name="Begun">Number of operations begun.</param>
/// <param name="Awaited">Number of the operation that it waits for; 0 for none.</param>
/// <param name="Seconds">How long it has waited.</param>
/// <param name="Last">The last operations begun, the newest last.</param>
internal sealed record RankState(long Begun, long Awaited, int Seconds, IReadOnlyList<string> Last)
{
    /// <summary>How many seconds it has not got on, without waiting for others.</summary>
    internal int Idle { get; init; }

    /// <summary>How many seconds that may last; 0 for as long as it takes.</summary>
    internal int IdleLimit { get; init; }

    /// <summary>Whether it is stuck.</summary>
    internal bool IsStuck => IdleLimit > 0 && Idle > IdleLimit;

    /// <summary>An operation by its number, or null if it has not begun or is long over.</summary>
    internal string? Operation(long number) => Last.Count - 1 - (Begun - number) is >= 0 and var at && at < Last.Count ? Last[(int)at] : null;

    /// <summary>The state in lines. What has begun is listed only by a rank that waits.</summary>
    internal string Write() =>
        string.Create(CultureInfo.InvariantCulture, $"{Begun} {Awaited} {Seconds} {Idle} {IdleLimit}{(Awaited == 0 ? "" : "\n" + string.Join('\n', Last))}");

    /// <summary>Reads <see cref="Write"/>; null if it is something else.</summary>
    internal static RankState? Parse(string text)
    {
        var lines = text.Split('\n');
        var numbers = lines[0].Split(' ').Select(static n => long.TryParse(n, CultureInfo.InvariantCulture, out var number) ? number : -1).ToArray();
        return numbers is [>= 0 and var begun, >= 0 and var awaited, >= 0 and var seconds, >= 0 and var idle, >= 0 and var limit]
            ? new RankState(begun, awaited, (int)seconds, lines[1..]) { Idle = (int)idle, IdleLimit = (int)limit }
            : null;
    }
}
