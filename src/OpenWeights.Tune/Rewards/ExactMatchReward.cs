using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer that equals the reference, ignoring white space around both; else 0.</summary>
internal sealed class ExactMatchReward(RewardSection section) : IReward
{
    private readonly Regex? _part = Patterns.Of(section);

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(a => (double?)(IsRight(a) ? 1 : 0))];

    // A reference that has the pattern too is compared by the same part, such as the year of a date.
    private string Reference(JudgedAnswer answer)
    {
        var whole = Patterns.Reference(answer, section);
        return Patterns.Part(_part, whole) ?? whole;
    }

    private bool IsRight(JudgedAnswer answer) => Patterns.Part(_part, answer.Answer) is { } given
        && given.Trim().Equals(Reference(answer).Trim(), section.IgnoreCase ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal);
}
