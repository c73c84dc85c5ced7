using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer that equals the reference, ignoring white space around both; else 0.</summary>
internal sealed class ExactMatchReward(RewardSection section) : IReward
{
    private readonly Regex? _part = Patterns.Of(section);

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(a => (double?)(IsRight(a) ? 1 : 0))];

    private bool IsRight(JudgedAnswer answer) => Patterns.Part(_part, answer.Answer) is { } given
        && given.Trim().Equals(Patterns.Reference(answer, section).Trim(), section.IgnoreCase ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal);
}
