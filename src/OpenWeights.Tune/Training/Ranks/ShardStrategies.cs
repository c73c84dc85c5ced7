using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The strategies by parallel.shard. To add one, add its file and a line here.</summary>
internal static class ShardStrategies
{
    /// <summary>Creates the strategy of a run.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="config">The run.</param>
    /// <param name="training">Its training section, with the number of warmup steps.</param>
    /// <param name="ranks">The ranks.</param>
    /// <exception cref="ConfigException">The optimizer or the adapter does not allow the strategy.</exception>
    internal static IShardStrategy Create(ITrainedModel trained, RunConfig config, TrainingSection training, RankGroup ranks)
    {
        IOptimizer Of(IReadOnlyList<TrainedParameter> parameters) => OptimizerKinds.Create(parameters, training);
        return (ranks.IsAlone, config.Parallel.Shard) switch
        {
            (true, _) => new WholeModel(trained.Model, trained.Parameters, Of(trained.Parameters)),
            (_, "none") => new ReplicatedModel(trained, ranks, config.Parallel, Of(trained.Parameters)),
            (_, "optimizer") when RankRules.NeedsWholeMatrices(training.Optimizer) || config.Adapter is { Type: "adalora" } => new OwnedParameters(trained, ranks, config.Parallel, Of),
            (_, "optimizer") => new OptimizerShards(trained, ranks, config.Parallel, Of),
            (_, "gradients") => new ShardedModel(trained, ranks, training, sharesWeights: false) { GivesWholeGradients = config.Adapter is { Type: "adalora" } },
            _ => new ShardedModel(trained, ranks, training, sharesWeights: true) { GivesWholeGradients = config.Adapter is { Type: "adalora" } },
        };
    }
}
