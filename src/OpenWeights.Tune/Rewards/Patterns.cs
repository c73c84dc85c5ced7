using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>Regular expressions and references of rewards.</summary>
internal static class Patterns
{
    /// <summary>How long a match may take, so that an expression that backtracks does not stop a run.</summary>
    internal static readonly TimeSpan Timeout = TimeSpan.FromSeconds(10);

    /// <summary>The reward's pattern; null without one.</summary>
    internal static Regex? Of(RewardSection section) => section.Pattern is { } pattern ? new Regex(pattern, Options(section), Timeout) : null;

    /// <summary>Options of the reward's pattern.</summary>
    internal static RegexOptions Options(RewardSection section) => RegexOptions.CultureInvariant | (section.IgnoreCase ? RegexOptions.IgnoreCase : RegexOptions.None);

    /// <summary>The part of a text that is compared: the pattern's first group, or its whole match; null if it does not occur.</summary>
    internal static string? Part(Regex? pattern, string text) => pattern is null ? text
        : pattern.Match(text) is not { Success: true } match ? null
        : match.Groups.Count > 1 ? match.Groups[1].Value : match.Value;

    /// <summary>The reference answer: that of the reward's column, or the row's.</summary>
    /// <exception cref="TrainingFailedException">The row has none.</exception>
    internal static string Reference(JudgedAnswer answer, RewardSection section) =>
        (section.Field is { } field ? answer.Row[field]?.ToString() : answer.Expected) is { } reference ? reference
            : throw new TrainingFailedException($"{answer.Place}: {(section.Field is { } missing ? $"there is no column \"{missing}\"" : "the row has no reference answer")}, which the reward {section.MetricName} compares with; name its column with the reward's field.");
}
