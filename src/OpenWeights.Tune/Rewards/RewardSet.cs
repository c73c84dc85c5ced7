using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>The rewards of a run.</summary>
internal sealed class RewardSet : IDisposable
{
    private readonly IReadOnlyList<(string Name, IReward Reward)> _rewards;

    private RewardSet(IReadOnlyList<(string Name, IReward Reward)> rewards) => _rewards = rewards;

    /// <summary>Creates the rewards.</summary>
    /// <param name="sections">Their settings.</param>
    /// <param name="load">Loads a reward model; null where there is none.</param>
    /// <exception cref="InvalidDataException">A file of a reward cannot be used.</exception>
    /// <exception cref="IOException">A file of a reward is missing.</exception>
    public static RewardSet Create(IReadOnlyList<RewardSection> sections, Func<RewardSection, IRewardModel>? load = null)
    {
        ArgumentNullException.ThrowIfNull(sections);
        return new RewardSet([.. sections.Select(s => (s.MetricName, RewardKinds.Create(s, load)))]);
    }

    /// <summary>The rewards of each answer, by name.</summary>
    /// <param name="answers">The answers.</param>
    /// <exception cref="TrainingFailedException">An answer cannot be judged, or a reward is not a number.</exception>
    public IReadOnlyList<IReadOnlyDictionary<string, double?>> Score(IReadOnlyList<JudgedAnswer> answers)
    {
        ArgumentNullException.ThrowIfNull(answers);
        Dictionary<string, double?>[] all = [.. answers.Select(static _ => new Dictionary<string, double?>())];
        foreach (var (name, reward) in _rewards)
        {
            var given = reward.Score(answers);
            if (given.Count != answers.Count)
            {
                throw new TrainingFailedException($"the reward {name} returned {given.Count} rewards for {answers.Count} answers; it must return one for each, in order, or null for an answer that it does not judge.");
            }

            for (var i = 0; i < given.Count; i++)
            {
                all[i][name] = given[i] is not { } value || double.IsFinite(value) ? given[i]
                    : throw new TrainingFailedException($"{answers[i].Place}: the reward {name} is {value}; it must be a finite number, or null for an answer that it does not judge.");
            }
        }

        return all;
    }

    /// <summary>What went wrong since the last call without stopping the run.</summary>
    public IReadOnlyList<string> TakeWarnings() => [.. _rewards.SelectMany(static r => r.Reward.TakeWarnings())];

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var reward in _rewards.Select(static r => r.Reward).OfType<IDisposable>())
        {
            reward.Dispose();
        }
    }
}
