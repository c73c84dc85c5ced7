using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>What a rank does.</summary>
/// <param name="Begun">Number of operations begun.</param>
/// <param name="Awaited">Number of the operation that it waits for; 0 for none.</param>
/// <param name="Seconds">How long it has waited.</param>
/// <param name="Last">The last operations begun, the newest last.</param>
internal sealed record RankState(long Begun, long Awaited, int Seconds, IReadOnlyList<string> Last)
{
    private const int FirstOperation = 3;

    /// <summary>Number of operations that do not wait for anything on this rank.</summary>
    internal long Reached { get; init; } = Begun;

    /// <summary>How many seconds it has not got on, without waiting for others or for something else that has a limit of its own.</summary>
    internal int Idle { get; init; }

    /// <summary>How many seconds that may last, by what it has done before; 0 if that is unknown.</summary>
    internal int IdleLimit { get; init; }

    /// <summary>How many seconds it has neither got on nor shown any sign of work.</summary>
    internal int Quiet { get; init; }

    /// <summary>What it does, such as "a step"; empty if unknown.</summary>
    internal string Kind { get; init; } = "";

    /// <summary>How much it does: a number of tokens.</summary>
    internal long Amount { get; init; }

    /// <summary>How it got on with what it has done, by kind.</summary>
    internal IReadOnlyDictionary<string, RankPace> Paces { get; init; } = new Dictionary<string, RankPace>();

    /// <summary>Whether it takes much longer than it did before.</summary>
    internal bool IsStuck => IdleLimit > 0 && Idle > IdleLimit;

    /// <summary>An operation by its number, or null if it has not begun or is long over.</summary>
    internal string? Operation(long number) => Last.Count - 1 - (Begun - number) is >= 0 and var at && at < Last.Count ? Last[(int)at] : null;

    /// <summary>The state in lines. What has begun is listed only by a rank that waits.</summary>
    internal string Write() => string.Join('\n',
    [
        string.Create(CultureInfo.InvariantCulture, $"{Begun} {Awaited} {Seconds} {Idle} {IdleLimit} {Quiet} {Amount} {Reached}"),
        Kind,
        string.Join(';', Paces.Select(static p => string.Create(CultureInfo.InvariantCulture, $"{p.Key}={p.Value.Longest} {p.Value.Largest}"))),
        .. Awaited == 0 ? [] : Last,
    ]);

    /// <summary>Reads <see cref="Write"/>; null if it is something else.</summary>
    internal static RankState? Parse(string text)
    {
        var lines = text.Split('\n');
        return lines.Length >= FirstOperation && Numbers(lines[0]) is [var begun, var awaited, var seconds, var idle, var limit, var quiet, var amount, var reached]
            ? new RankState(begun, awaited, (int)seconds, lines[FirstOperation..])
            {
                Idle = (int)idle,
                IdleLimit = (int)limit,
                Quiet = (int)quiet,
                Kind = lines[1],
                Amount = amount,
                Reached = reached,
                Paces = ParsePaces(lines[2]),
            }
            : null;
    }

    private static Dictionary<string, RankPace> ParsePaces(string line)
    {
        var paces = new Dictionary<string, RankPace>();
        foreach (var part in line.Split(';', StringSplitOptions.RemoveEmptyEntries))
        {
            if (part.Split('=') is [var kind, var rest] && Numbers(rest) is [var longest, var largest])
            {
                paces[kind] = new RankPace(longest, largest);
            }
        }

        return paces;
    }

    // Null unless all are whole numbers.
    private static long[]? Numbers(string line)
    {
        var numbers = line.Split(' ').Select(static n => long.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : -1).ToArray();
        return numbers.Contains(-1) ? null : numbers;
    }
}

/// <summary>How a rank got on with something.</summary>
/// <param name="Longest">The longest time between two marks, in milliseconds.</param>
/// <param name="Largest">The largest amount of work at once: a number of tokens.</param>
internal sealed record RankPace(long Longest, long Largest)
{
    // What took some time once may take more the next time: a busy machine, other rows, another machine.
    private const int Patience = 5;

    /// <summary>After how many seconds without getting on a rank with this pace is stuck.</summary>
    /// <param name="amount">What it does.</param>
    /// <param name="least">The least number of seconds.</param>
    internal double Limit(long amount, double least)
    {
        // Attention takes the square.
        var scale = Largest > 0 && amount > Largest ? Math.Pow((double)amount / Largest, 2) : 1;
        return scale * Math.Max(least, Patience * Longest / 1000.0);
    }
}
