using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>What several ranks cannot do exactly, and what is not there yet.</summary>
internal static class RankRules
{
    // Whose step of an element needs nothing of others.
    private static readonly string[] s_elementwise =
    [
        "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd", "lion", "lion_8bit", "paged_lion", "paged_lion_8bit", "ademamix", "ademamix_8bit", "paged_ademamix", "paged_ademamix_8bit",
    ];

    /// <summary>The problems of a run of several ranks.</summary>
    /// <param name="config">The run.</param>
    internal static IEnumerable<ConfigProblem> Of(RunConfig config)
    {
        static ConfigProblem Problem(string key, string message) => new("", key, message);
        if (config.Parallel.Shard is "optimizer")
        {
            yield return Problem("parallel.shard", $"{config.Parallel.Shard} is not possible yet; set it to none.");
        }

        if (config.Parallel.Shard is "gradients" or "parameters")
        {
            foreach (var problem in OfShards(config))
            {
                yield return problem;
            }
        }

        if (config.Model.Device.Values.Count > 1)
        {
            yield return Problem("model.device", "each of several ranks has one device; name one, or share out the weights over the ranks with parallel.shard: parameters.");
        }

        if (config.Objective.Type != "sft")
        {
            yield return Problem("objective.type", $"{config.Objective.Type} is not possible yet with several ranks; train it with one.");
        }
    }

    // What ranks cannot do that have parts of weights and gradients.
    private static IEnumerable<ConfigProblem> OfShards(RunConfig config)
    {
        var (training, shard) = (config.Training, config.Parallel.Shard);
        ConfigProblem Problem(string key, string message) => new("", key, $"{message}; or set parallel.shard to none or optimizer.");
        if (!s_elementwise.Contains(training.Optimizer))
        {
            yield return Problem("training.optimizer", $"{training.Optimizer} needs whole matrices, of which ranks with parallel.shard: {shard} have parts; choose one of {string.Join(", ", s_elementwise)}");
        }

        if (training.Ema is not null)
        {
            yield return Problem("training.ema", $"ranks with parallel.shard: {shard} have parts of the weights, and no average of them; remove the section");
        }

        if (training.LowPrecision == "stochastic_rounding")
        {
            yield return Problem("training.low_precision", "ranks would round at random each in their own way; set it to master_weights");
        }

        if (config.Adapter is { Type: "adalora" } or { KasaConfig: not null })
        {
            yield return Problem("adapter", $"it adds a loss of its own weights, whose gradients ranks with parallel.shard: {shard} do not have; choose another kind");
        }

        if (shard == "parameters" && config.Adapter is { LayerReplication.Count: > 0 })
        {
            yield return Problem("adapter.layer_replication", "layers that are used several times cannot be shared out with parallel.shard: parameters; remove the setting");
        }

        if (shard == "parameters" && config.Adapter is { InitLoraWeights: "eva" or "corda" or "lora_ga" })
        {
            yield return Problem("adapter.init_lora_weights", "it measures the whole model, of which ranks with parallel.shard: parameters have parts; choose another start");
        }

        if (shard == "parameters" && config.Data.Eval.Count > 0 && config.Evaluation.GenerateRows > 0)
        {
            yield return Problem("evaluation.generate_rows", "one rank generates answers, and with parallel.shard: parameters it has a part of the weights; set it to 0");
        }

        if (shard == "parameters" && config is { Adapter: null, Evaluation.KeepBest: true, Data.Eval.Count: > 0 })
        {
            yield return Problem("evaluation.keep_best", "ranks with parallel.shard: parameters cannot go back to the best weights; set it to false");
        }

        if (shard == "parameters" && config.Adapter is null && (training.Trainable != "all" || training.FirstTrainedLayer > 0))
        {
            yield return Problem("training.trainable", "parallel.shard: parameters shares out layers that are trained whole or not at all; train all, or set it to gradients");
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
