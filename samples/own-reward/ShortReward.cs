using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Samples;

/// <summary>Rewards answers of fewer than 12 tokens, and half as much any that says thanks.</summary>
public sealed class ShortReward : IReward
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) =>
        [.. answers.Select(static a => (double?)((a.AnswerIds.Count < 12 ? 1 : 0) + (a.Answer.Contains("thank", StringComparison.OrdinalIgnoreCase) ? 0.5 : 0)))];
}
