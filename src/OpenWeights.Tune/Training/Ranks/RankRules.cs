using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>What several ranks cannot do exactly, and what is not there yet.</summary>
internal static class RankRules
{
    // Whose step of an element needs nothing of others.
    private static readonly string[] s_elementwise =
    [
        "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd", "lion", "lion_8bit", "paged_lion", "paged_lion_8bit", "ademamix", "ademamix_8bit", "paged_ademamix", "paged_ademamix_8bit",
        "schedule_free_adamw",
    ];

    // Whose micro-batches are a pass of the model each, or as many in each.
    private static readonly string[] s_ofEqualPasses = ["sft", "dpo", "cpo", "orpo", "kto", "bco", "reward", "classification", "embedding", "distill", "grpo", "rloo"];

    /// <summary>The problems of a run of several ranks.</summary>
    /// <param name="config">The run.</param>
    internal static IEnumerable<ConfigProblem> Of(RunConfig config)
    {
        static ConfigProblem Problem(string key, string message) => new("", key, message);
        var (shard, training) = (config.Parallel.Shard, config.Training);
        if (shard is "gradients" or "parameters")
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

        if (shard != "none" && training.LowPrecision == "stochastic_rounding")
        {
            yield return Problem("training.low_precision", $"stochastic_rounding draws a random number for each element of a whole parameter, and parallel.shard: {shard} divides parameters; use master_weights, or parallel.shard: none.");
        }

        if (shard != "none" && training.Optimizer == "apollo_adamw")
        {
            yield return Problem("parallel.shard", $"{shard} does not go with apollo_adamw, whose random projections are those of all parameters together; use another optimizer, or parallel.shard: none.");
        }

        if (shard != "none" && config.Adapter is { Type: "adalora" } && training.Optimizer == "schedule_free_adamw")
        {
            yield return Problem("training.optimizer", "schedule_free_adamw averages parts of the weights, and adalora needs them whole; use another optimizer, or parallel.shard: none.");
        }
    }

    // What ranks cannot do that have parts of weights and gradients.
    private static IEnumerable<ConfigProblem> OfShards(RunConfig config)
    {
        var (training, shard) = (config.Training, config.Parallel.Shard);
        ConfigProblem Problem(string key, string message) => new("", key, $"{message}; or set parallel.shard to none or optimizer.");
        if (shard == "parameters" && NeedsWholeMatrices(training.Optimizer))
        {
            yield return Problem("training.optimizer", $"{training.Optimizer} needs whole matrices, of which ranks with parallel.shard: parameters have parts; choose one of {string.Join(", ", s_elementwise)}, set parallel.shard: gradients");
        }

        if (!s_ofEqualPasses.Contains(config.Objective.Type))
        {
            yield return Problem("objective.type", $"ranks with parallel.shard: {shard} compute as many passes of the model as each other, which {config.Objective.Type} does not promise; {string.Join(", ", s_ofEqualPasses)} do");
        }

        if (shard == "parameters" && config.Adapter is { KasaConfig: not null })
        {
            yield return Problem("adapter", "it puts other weights in the place of the layers' own, which ranks with parallel.shard: parameters share out; choose another kind, set parallel.shard: gradients");
        }

        if (shard == "parameters" && config.Adapter is { LayerReplication.Count: > 0 })
        {
            yield return Problem("adapter.layer_replication", "layers that are used several times cannot be shared out with parallel.shard: parameters; remove the setting");
        }

        if (shard == "parameters" && config.Adapter is { InitLoraWeights: "eva" or "corda" or "lora_ga" })
        {
            yield return Problem("adapter.init_lora_weights", "it measures the whole model, of which ranks with parallel.shard: parameters have parts; choose another start");
        }

        if (shard == "parameters" && config.Adapter is null && (training.Trainable != "all" || training.FirstTrainedLayer > 0))
        {
            yield return Problem("training.trainable", "parallel.shard: parameters shares out layers that are trained whole or not at all; train all, or set it to gradients");
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
