using System.Globalization;

namespace OpenWeights.Tune.Distributed;

/// <summary>How long ranks wait for each other.</summary>
/// <param name="Silence">A rank that sends nothing for this long counts as dead.</param>
/// <param name="Operation">A rank may begin what another waits for this much later: rank 0 may load or write files meanwhile.</param>
/// <param name="Start">All ranks must have joined this long after the first.</param>
internal sealed record RankLimits(TimeSpan Silence, TimeSpan Operation, TimeSpan Start)
{
    private const double UsualStall = 40;

    private const double MaxSeconds = 7 * 24 * 3600;

    /// <summary>Variable of <see cref="Silence"/>, in seconds.</summary>
    internal const string SilenceVariable = "OWT_RANK_SILENCE";

    /// <summary>Variable of <see cref="Operation"/>, in seconds.</summary>
    internal const string OperationVariable = "OWT_RANK_TIMEOUT";

    /// <summary>Variable of <see cref="Start"/>, in seconds.</summary>
    internal const string StartVariable = "OWT_RANK_START";

    /// <summary>Variable of <see cref="Stall"/>, in seconds.</summary>
    internal const string StallVariable = "OWT_RANK_STALL";

    /// <summary>A rank that lives, but does not get on with its step for this long, counts as stuck while others wait for it; zero for never.</summary>
    internal TimeSpan Stall { get; init; } = TimeSpan.FromSeconds(UsualStall);

    /// <summary>Time between two signs of life.</summary>
    internal TimeSpan Heartbeat => Silence / 6;

    /// <summary>The limits of the environment: 30 s, 10 min, 5 min and 40 s where it has none.</summary>
    /// <param name="read">Value of a variable, or null.</param>
    /// <exception cref="RankFailedException">A variable is no number of seconds.</exception>
    internal static RankLimits Read(Func<string, string?> read) =>
        new(Seconds(read, SilenceVariable, 30), Seconds(read, OperationVariable, 600), Seconds(read, StartVariable, 300)) { Stall = Seconds(read, StallVariable, UsualStall) };

    private static TimeSpan Seconds(Func<string, string?> read, string name, double usual) => read(name) switch
    {
        null or "" => TimeSpan.FromSeconds(usual),
        var text when double.TryParse(text, CultureInfo.InvariantCulture, out var seconds) && seconds is > 0 and <= MaxSeconds => TimeSpan.FromSeconds(seconds),
        var text => throw new RankFailedException($"{name} is '{text}'; it must be a number of seconds, at most a week."),
    };
}
