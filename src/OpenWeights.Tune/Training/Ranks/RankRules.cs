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
        var (shard, training) = (config.Parallel.Shard, config.Training);
        if (shard is "gradients" or "parameters")
        {
            yield return Problem("parallel.shard", $"{shard} is not possible yet; set it to optimizer or none.");
        }

        if (shard != "none" && training.LowPrecision == "stochastic_rounding")
        {
            yield return Problem("training.low_precision", $"stochastic_rounding draws a random number for each element of a whole parameter, and parallel.shard: {shard} divides parameters; use master_weights, or parallel.shard: none.");
        }

        if (shard != "none" && training.Optimizer == "apollo_adamw")
        {
            yield return Problem("parallel.shard", $"{shard} does not go with apollo_adamw, whose random projections are those of all parameters together; use another optimizer, or parallel.shard: none.");
        }

        if (shard != "none" && config.Adapter is { Type: "adalora" })
        {
            yield return Problem("parallel.shard", $"{shard} does not go with adalora, which judges its ranks by whole gradients; use parallel.shard: none.");
        }

        if (config.Objective.Type == "bco")
        {
            yield return Problem("objective.type", "bco shifts the rewards of a micro-batch by the mean of all before it, which ranks that compute at the same time do not have; train with one rank, or use kto.");
        }
    }

    /// <summary>Whether an optimizer updates matrices as wholes, so that ranks cannot have pieces of them.</summary>
    /// <param name="optimizer">Its config name.</param>
    internal static bool NeedsWholeMatrices(string optimizer) => optimizer is "adafactor" or "adafactor_torch" or "muon" or "galore_adamw" or "lora_fa" or "riemannian_adamw";

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
