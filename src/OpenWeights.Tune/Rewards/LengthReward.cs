using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer whose number of tokens is within limits, falling to 0 over some tokens beyond them.</summary>
internal sealed class LengthReward(RewardSection section) : IReward
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(a => (double?)Score(a.AnswerIds.Count))];

    private double Score(int tokens)
    {
        var beyond = Math.Max(section.MinTokens - tokens, tokens - (section.MaxTokens ?? int.MaxValue));
        return beyond <= 0 ? 1 : Math.Max(0, 1 - ((double)beyond / (section.Slope + 1)));
    }
}
