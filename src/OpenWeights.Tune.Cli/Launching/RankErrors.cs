using System.Globalization;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Cli.Launching;

/// <summary>
/// The sentences with which ranks end: each is told once. That a rank ended without a word is what the others know of it; how it ended, which is known a moment
/// later, is told instead.
/// </summary>
internal sealed partial class RankErrors
{
    private const string Error = "error: ";
    private const int HeldMilliseconds = 1500;

    private readonly HashSet<string> _told = [];
    private readonly HashSet<int> _ended = [];
    private readonly Dictionary<int, (string Line, Action<string> Tell, long Until)> _held = [];

    /// <summary>Whether there was any.</summary>
    internal bool Any => _told.Count > 0 || _held.Count > 0;

    /// <summary>The first signal that ended a rank; null if none did.</summary>
    internal int? Signal { get; private set; }

    /// <summary>Takes a line of a rank, and tells it now, later or not at all.</summary>
    /// <param name="line">The line.</param>
    /// <param name="tell">Tells it.</param>
    /// <param name="now">Milliseconds since some time.</param>
    internal void Add(string line, Action<string> tell, long now)
    {
        if (!line.StartsWith(Error, StringComparison.Ordinal))
        {
            tell(line);
        }
        else if (RankEnd.Parse(line) is var (ended, signal))
        {
            Signal ??= signal;
            _ = _held.Remove(ended);
            if (_ended.Add(ended))
            {
                Tell(line, tell);
            }
        }
        else if (Vague().Match(line) is { Success: true } match)
        {
            var rank = int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
            if (!_ended.Contains(rank))
            {
                _ = _held.TryAdd(rank, (line, tell, now + HeldMilliseconds));
            }
        }
        else
        {
            Tell(line, tell);
        }
    }

    /// <summary>Tells what was held back long enough.</summary>
    /// <param name="now">Milliseconds since the same time; the greatest number for all.</param>
    internal void Release(long now)
    {
        foreach (var (rank, (line, tell, _)) in _held.Where(h => h.Value.Until <= now).ToList())
        {
            _ = _held.Remove(rank);
            if (_ended.Add(rank))
            {
                Tell(line, tell);
            }
        }
    }

    // All ranks end with the same sentence.
    private void Tell(string line, Action<string> tell)
    {
        if (_told.Add(line))
        {
            tell(line);
        }
    }

    [GeneratedRegex(@"^error: rank (\d+) \(.*\) ended without a word: ")]
    private static partial Regex Vague();
}
