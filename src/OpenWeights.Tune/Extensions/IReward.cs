namespace OpenWeights.Tune.Extensions;

/// <summary>
/// Judges answers that a model sampled. A class of your own is named in objective.rewards with its assembly, or handed over in
/// RewardSection.Custom; it needs a constructor without parameters, or one that takes a RewardSection. One that implements <see cref="IDisposable"/> is disposed at the end.
/// </summary>
public interface IReward
{
    /// <summary>The reward of each answer, in order; null for one that it does not judge.</summary>
    /// <param name="answers">The answers, those to a prompt one after the other.</param>
    /// <exception cref="TrainingFailedException">An answer cannot be judged; the message names its row.</exception>
    IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers);

    /// <summary>What went wrong since the last call without stopping the run.</summary>
    IReadOnlyList<string> TakeWarnings() => [];
}
