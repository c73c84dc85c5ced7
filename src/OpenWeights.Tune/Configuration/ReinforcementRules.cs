using System.Globalization;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Checks of objectives that train on sampled answers.</summary>
internal static class ReinforcementRules
{
    /// <summary>Whether an objective trains on sampled answers.</summary>
    internal static bool Applies(ObjectiveSection section) => section.Type is "grpo" or "rloo";

    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Of(RunConfig config)
    {
        var section = config.Objective;
        return !Applies(section) ? [] : Rows(config).Concat(Rewards(section)).Concat(Sizes(config));
    }

    private static IEnumerable<(string Key, string Message)> Rows(RunConfig config)
    {
        var (section, data) = (config.Objective, config.Data);
        if (data.OverLength is not ("error" or "drop"))
        {
            yield return ("data.over_length", $"{data.OverLength} would change sampled answers or their prompts; use error or drop.");
        }

        if (section.Samples is null)
        {
            yield break;
        }

        if (data.Train is not [{ Query: null, Weight: 1, Repeat: 1 } only] || Path.GetFullPath(only.Path) != Path.GetFullPath(section.Samples))
        {
            yield return ("data.train", "objective.samples has the training rows; leave data.train out.");
        }

        if (data.EvalFraction > 0)
        {
            yield return ("data.eval_fraction", "it would divide groups of recorded samples; set data.eval to a file of other groups.");
        }

        if (section.Rewards.Count > 0)
        {
            yield return ("objective.rewards", "recorded samples have their rewards in the file; remove rewards, or remove samples to sample while training.");
        }
    }

    private static IEnumerable<(string Key, string Message)> Rewards(ObjectiveSection section)
    {
        if (section.Samples is null && section.Rewards.Count == 0)
        {
            yield return ("objective.rewards", "at least one reward is required, such as `rewards: [ { type: exact_match } ]`, or objective.samples with answers that were judged before.");
        }

        if (section is { Samples: null, RewardWeights.Count: > 0 } && section.RewardWeights.Count != section.Rewards.Count)
        {
            yield return ("objective.reward_weights", $"there are {section.RewardWeights.Count} weights for {section.Rewards.Count} rewards; give one for each.");
        }

        if (section.RewardClipRange.Count > 0 && (section.RewardClipRange.Count != 2 || section.RewardClipRange[0] > section.RewardClipRange[1]))
        {
            yield return ("objective.reward_clip_range", "two numbers are expected, the smaller first, such as [-1, 1].");
        }

        if (section.Rewards.GroupBy(static r => r.MetricName).FirstOrDefault(static g => g.Count() > 1) is { } same)
        {
            yield return ("objective.rewards", $"{same.Count()} rewards are called {same.Key}; give each a name.");
        }

        for (var i = 0; i < section.Rewards.Count; i++)
        {
            foreach (var (key, message) in Reward(section.Rewards[i]))
            {
                yield return (string.Create(CultureInfo.InvariantCulture, $"objective.rewards.{i}.{key}"), message);
            }
        }
    }

    private static IEnumerable<(string Key, string Message)> Reward(RewardSection reward)
    {
        if (reward is { Type: "model", Model: null or "" })
        {
            yield return ("model", "a reward model is required: a folder, a run, or a name on the Hub.");
        }

        if (reward is { Type: "class", Assembly: null })
        {
            yield return ("assembly", "the path of a .dll is required, in which the class is.");
        }

        if (reward is { Type: "command", Command.Count: 0 })
        {
            yield return ("command", "a program is required, such as `command: [ python3, judge.py ]`.");
        }

        if (reward is { Type: "length", MaxTokens: null, MinTokens: 0 })
        {
            yield return ("max_tokens", "set max_tokens, min_tokens or both.");
        }

        if (reward.MaxTokens < reward.MinTokens)
        {
            yield return ("max_tokens", $"{reward.MaxTokens} is less than min_tokens ({reward.MinTokens}).");
        }

        if (reward.Pattern is { } pattern && Problem(pattern) is { } problem)
        {
            yield return ("pattern", $"'{pattern}' is not a regular expression: {problem}");
        }
    }

    private static string? Problem(string pattern)
    {
        try
        {
            _ = new Regex(pattern);
            return null;
        }
        catch (ArgumentException e)
        {
            return e.Message;
        }
    }

    private static IEnumerable<(string Key, string Message)> Sizes(RunConfig config)
    {
        var (section, training) = (config.Objective, config.Training);
        if (section.StepsPerGeneration is { } steps && steps % training.GradientAccumulationSteps != 0 && training.GradientAccumulationSteps % steps != 0)
        {
            yield return ("objective.steps_per_generation", $"{steps} is not a multiple of training.gradient_accumulation_steps ({training.GradientAccumulationSteps}), so that optimizer steps would mix answers of several generations.");
        }

        if (section.Samples is null && training.MicroBatchSize is { } rows)
        {
            var (answers, together) = (section.Generations, rows * section.MicroBatchesTogether(training));
            if (together % answers != 0)
            {
                yield return ("objective.num_generations", $"{together} answers are sampled together (training.micro_batch_size x {(section.StepsPerGeneration is null ? "training.gradient_accumulation_steps" : "objective.steps_per_generation")}), which is not a multiple of {answers} for each prompt; change one of them.");
            }
        }
    }
}
