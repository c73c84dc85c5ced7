using System.Globalization;

namespace OpenWeights.Tune.Training;

/// <summary>Tells once when the rewards of sampled answers do not vary, so that nothing is learned.</summary>
internal sealed class RewardWatch
{
    // Number of steps in a row without any difference.
    private const int Steps = 10;

    private int _equal;

    /// <summary>Adds a step.</summary>
    /// <param name="metrics">The objective's metrics of the step.</param>
    /// <returns>A warning, with what to try.</returns>
    internal IEnumerable<string> Add(IReadOnlyDictionary<string, double> metrics)
    {
        if (!metrics.TryGetValue("frac_reward_zero_std", out var equal))
        {
            return [];
        }

        _equal = equal >= 1 ? _equal + 1 : 0;
        return _equal != Steps ? [] :
        [
            string.Create(CultureInfo.InvariantCulture, $"in the last {Steps} steps, all answers to a prompt had the same reward (mean {metrics.GetValueOrDefault("reward"):0.###}), so that nothing was learned. ")
            + (metrics.GetValueOrDefault("reward") > 0.9
                ? "The task may be solved: use harder prompts, or stop."
                : "Read samples.jsonl: do the rewards judge what they should? If the model never succeeds, train it on examples first (objective.type: sft), use easier prompts, a reward with parts, a higher objective.temperature, or more num_generations."),
        ];
    }
}
