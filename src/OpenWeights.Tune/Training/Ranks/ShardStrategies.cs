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
    internal static IShardStrategy Create(ITrainedModel trained, RunConfig config, TrainingSection training, RankGroup ranks) => (ranks.IsAlone, config.Parallel.Shard) switch
    {
        (true, _) => new WholeModel(trained.Model, trained.Parameters, OptimizerKinds.Create(trained.Parameters, training)),
        (_, "none") => new ReplicatedModel(trained, ranks, config.Parallel, OptimizerKinds.Create(trained.Parameters, training)),
        var (_, shard) => throw new ConfigException([new ConfigProblem("", "parallel.shard", $"{shard} is not possible yet; set it to none.")]),
    };
}
