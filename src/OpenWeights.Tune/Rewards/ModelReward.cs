using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>A model that gives prompts with their answers a number.</summary>
internal interface IRewardModel : IDisposable
{
    /// <summary>The reward of each answer, in order.</summary>
    /// <param name="answers">The answers.</param>
    /// <exception cref="InvalidDataException">A prompt with its answer cannot be read.</exception>
    IReadOnlyList<double> Rewards(IReadOnlyList<JudgedAnswer> answers);
}

/// <summary>The number that a reward model gives an answer.</summary>
internal sealed class ModelReward(IRewardModel model) : IReward, IDisposable
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. model.Rewards(answers).Select(static r => (double?)r)];

    /// <inheritdoc/>
    public void Dispose() => model.Dispose();
}
