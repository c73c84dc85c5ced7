using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer that as a whole, with its reasoning, has the form of a pattern; else 0. Unless given, it is reasoning between think tags, then an answer.</summary>
internal sealed class FormatReward(RewardSection section) : IReward
{
    private const string Thinking = @"<think>(?!.*<think>).*?</think>.+";
    private readonly Regex _pattern = new($@"\A(?:{section.Pattern ?? Thinking})\z", Patterns.Options(section) | RegexOptions.Singleline, Patterns.Timeout);

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(a => (double?)(_pattern.IsMatch(a.Completion.Trim()) ? 1 : 0))];
}
