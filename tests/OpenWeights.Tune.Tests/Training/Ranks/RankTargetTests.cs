using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Tests.Distributed;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Ranks whose rows have nothing to predict compute the same as one process: means are of the targets of all ranks, not of ranks.</summary>
[TestFixture]
public sealed class RankTargetTests
{
    // Of four micro-batches of two rows, these have no targets: the first rank of two has the first and the last, of four each has one.
    private static readonly int[][] s_without = [[1, 2], [0, 3], [], [1, 2, 3]];

    [Test]
    public void A_rank_with_rows_but_without_targets_changes_nothing([Values("none", "optimizer", "gradients", "parameters")] string shard, [Values(2, 4)] int ranks)
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder);
        var one = Train(folder, RankGroup.Alone, shard);
        var all = new (double[] Losses, double[][] Weights)[ranks];
        ThreadRanks.Run(ranks, group => all[group.Rank] = Train(folder, group, shard));
        foreach (var (losses, weights) in all)
        {
            Assert.That(losses, Is.EqualTo(one.Losses).Within(1e-3).Percent);
            foreach (var (found, expected) in weights.Zip(one.Weights))
            {
                Assert.That(found, Is.EqualTo(expected).Within(1e-5));
            }
        }
    }

    private static (double[] Losses, double[][] Weights) Train(TemporaryFolder folder, RankGroup ranks, string shard)
    {
        var random = new Random(4);
        var rows = s_without.SelectMany(without => Enumerable.Range(0, 8).Select(i =>
        {
            var ids = Enumerable.Range(0, 5 + random.Next(8)).Select(_ => random.Next(TinyModel.Vocabulary)).ToArray();
            return new TokenRow(ids, without.Contains(i / 2) ? Array.ConvertAll(ids, static _ => TokenRow.Ignored) : ids, $"row {i}");
        })).ToList();
        var config = new RunConfig
        {
            Training = new TrainingSection { WarmupSteps = 0, LearningRate = 5e-3, MicroBatchSize = 2, ActivationCheckpointing = "block" },
            Parallel = new ParallelSection { Shard = shard, BucketMib = 0.005 },
        };
        using var trained = new FullTraining(ModelLoader.Load(folder.At("model"), float32, CPU), decayNormsAndBiases: false);
        using var trainer = new Trainer(trained, new SupervisedObjective(), new BatchSampler(rows, shuffle: false, seed: 1, microBatch: 2, accumulation: 4, keepsOrder: true), config, s_without.Length, ranks);
        var losses = s_without.Select(_ => trainer.Step().Loss).ToArray();
        return (losses, [.. trained.Parameters.Select(p =>
        {
            using var scope = NewDisposeScope();
            trained.Model.Stack.LayerWeights?.Show(p.Name);
            return System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(p.Parameter.detach().to(float64).contiguous().bytes).ToArray();
        })]);
    }
}
