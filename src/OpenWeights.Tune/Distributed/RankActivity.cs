using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>
/// What a rank does with the others: its operations are numbered as they begin, so ranks that do not do the same are found. An engine
/// and a channel share it.
/// </summary>
internal sealed class RankActivity
{
    // Ranks are at most a few operations apart.
    private const int Remembered = 32;
    private readonly Lock _gate = new();
    private readonly Queue<string> _last = new();
    private readonly List<(long Number, long Since)> _waits = [];
    private long _begun;

    /// <summary>Notes an operation that begins.</summary>
    /// <param name="label">What it is: "all-reduce of 12 Float32".</param>
    /// <returns>Its number, from 1.</returns>
    internal long Begin(string label)
    {
        lock (_gate)
        {
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
        var entry = (number, Environment.TickCount64);
        lock (_gate)
        {
            _waits.Add(entry);
        }

        return new Waiting(this, entry);
    }

    /// <summary>What the rank does now.</summary>
    internal RankState Read()
    {
        lock (_gate)
        {
            var wait = _waits.Count == 0 ? default : _waits.MinBy(static w => w.Number);
            return new RankState(_begun, wait.Number, wait.Number == 0 ? 0 : (int)((Environment.TickCount64 - wait.Since) / 1000), [.. _last]);
        }
    }

    private sealed class Waiting(RankActivity activity, (long, long) entry) : IDisposable
    {
        public void Dispose()
        {
            lock (activity._gate)
            {
                _ = activity._waits.Remove(entry);
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
    /// <summary>An operation by its number, or null if it has not begun or is long over.</summary>
    internal string? Operation(long number) => Last.Count - 1 - (Begun - number) is >= 0 and var at && at < Last.Count ? Last[(int)at] : null;

    /// <summary>The state in lines. What has begun is listed only by a rank that waits.</summary>
    internal string Write() => string.Create(CultureInfo.InvariantCulture, $"{Begun} {Awaited} {Seconds}{(Awaited == 0 ? "" : "\n" + string.Join('\n', Last))}");

    /// <summary>Reads <see cref="Write"/>; null if it is something else.</summary>
    internal static RankState? Parse(string text)
    {
        var lines = text.Split('\n');
        return lines[0].Split(' ') is [var begun, var awaited, var seconds] && long.TryParse(begun, CultureInfo.InvariantCulture, out var b)
            && long.TryParse(awaited, CultureInfo.InvariantCulture, out var a) && int.TryParse(seconds, CultureInfo.InvariantCulture, out var s)
            ? new RankState(b, a, s, lines[1..])
            : null;
    }
}
