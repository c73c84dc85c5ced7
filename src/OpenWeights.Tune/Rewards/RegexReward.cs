using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer in which a pattern occurs; else 0. The pattern is the setting's, or that of the row.</summary>
internal sealed class RegexReward(RewardSection section) : IReward
{
    private readonly Regex? _pattern = Patterns.Of(section);

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(Score)];

    private double? Score(JudgedAnswer answer)
    {
        if (_pattern is not null)
        {
            return _pattern.IsMatch(answer.Answer) ? 1 : 0;
        }

        var own = Patterns.Reference(answer, section);
        try
        {
            return Regex.IsMatch(answer.Answer, own, Patterns.Options(section), Patterns.Timeout) ? 1 : 0;
        }
        catch (RegexParseException e)
        {
            throw new TrainingFailedException($"{answer.Place}: '{own}' is not a regular expression: {e.Message}", e);
        }
    }
}
