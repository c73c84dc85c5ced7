using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>What several ranks cannot do exactly, and what is not there yet.</summary>
internal static class RankRules
{
    /// <summary>The problems of a run of several ranks.</summary>
    /// <param name="config">The run.</param>
    internal static IEnumerable<ConfigProblem> Of(RunConfig config)
    {
        static ConfigProblem Problem(string key, string message) => new("", key, message);
        if (config.Parallel.Shard is "gradients" or "parameters" or "optimizer")
        {
            yield return Problem("parallel.shard", $"{config.Parallel.Shard} is not possible yet; set it to none.");
        }

        if (config.Objective.Type != "sft")
        {
            yield return Problem("objective.type", $"{config.Objective.Type} is not possible yet with several ranks; train it with one.");
        }
    }

    /// <summary>Throws if several ranks cannot do a run.</summary>
    /// <param name="config">The run.</param>
    /// <exception cref="ConfigException">There are problems; the exception lists all of them.</exception>
    internal static void Require(RunConfig config)
    {
        if (Of(config).ToList() is { Count: > 0 } problems)
        {
            throw new ConfigException(problems);
        }
    }
}
