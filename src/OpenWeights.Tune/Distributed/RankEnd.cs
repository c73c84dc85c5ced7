using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Distributed;

/// <summary>How a rank's process ended, where it could not say so itself.</summary>
internal static partial class RankEnd
{
    private const int FirstSignalCode = 129;
    private const int LastSignalCode = 192;

    // What a program gives that ended by itself after Ctrl-C.
    private const int Interrupted = 130;

    /// <summary>What is told of each signal; of 0, of all others.</summary>
    internal static IReadOnlyDictionary<int, string> Sentences { get; } = new Dictionary<int, string>
    {
        [4] = "crashed with signal 4, an instruction that its processor does not know: it was built for another processor.",
        [6] = "crashed with signal 6: a library found an error and ended it; what it printed before says more.",
        [7] = "crashed with signal 7, a bus error: a file that it had mapped became shorter, or /dev/shm is full.",
        [9] = "was killed by signal 9: its machine ran out of memory (see dmesg), or somebody or the cluster ended it.",
        [11] = "crashed with signal 11, a segmentation fault.",
        [15] = "was ended by signal 15: somebody or the cluster ended it.",
        [0] = "was ended by signal",
    };

    /// <summary>The signal that ended a process, or null if it ended by itself.</summary>
    /// <param name="code">Its exit code: for a signal 128 and its number.</param>
    internal static int? Signal(int code) => code is >= FirstSignalCode and <= LastSignalCode and not Interrupted ? code - FirstSignalCode + 1 : null;

    /// <summary>One sentence on a rank that a signal ended.</summary>
    /// <param name="rank">The rank.</param>
    /// <param name="host">Its host.</param>
    /// <param name="signal">The signal.</param>
    internal static string Sentence(int rank, string host, int signal) =>
        $"rank {rank} ({host}) {(signal != 0 && Sentences.TryGetValue(signal, out var sentence) ? sentence : $"{Sentences[0]} {signal}.")}";

    /// <summary>The rank of which a line tells that a signal ended it, and the signal; null for another line.</summary>
    internal static (int Rank, int Signal)? Parse(string line) =>
        Line().Match(line) is { Success: true } match ? (Number(match.Groups[1]), Number(match.Groups[2])) : null;

    private static int Number(Group digits) => int.Parse(digits.ValueSpan, System.Globalization.CultureInfo.InvariantCulture);

    [GeneratedRegex(@"^error: rank (\d+) \(.*\) (?:crashed with|was killed by|was ended by) signal (\d+)")]
    private static partial Regex Line();
}
