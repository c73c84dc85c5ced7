using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>Every rank has all weights and takes the same steps with the same gradients.</summary>
internal sealed class ReplicatedModel : RankedModel
{
    /// <summary>Gradients begin at whole cache lines.</summary>
    internal const long Block = 16;

    /// <summary>Creates the strategy.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="ranks">The ranks.</param>
    /// <param name="settings">The parallel section.</param>
    /// <param name="optimizer">The optimizer; this object takes ownership.</param>
    internal ReplicatedModel(ITrainedModel trained, RankGroup ranks, ParallelSection settings, IOptimizer optimizer)
        : base(trained, ranks, settings, Block, scatters: false) => Optimizer = optimizer;

    /// <inheritdoc/>
    public override IOptimizer Optimizer { get; }

    private protected override IEnumerable<Tensor> Measured => Part(Buckets, Parameters, Ranks);

    private protected override IEnumerable<Tensor> Owned => Parameters.Select(static p => p.Parameter.grad).OfType<Tensor>();

    /// <inheritdoc/>
    public override void Step(double rate, double factor) => Optimizer.Step(rate, factor);

    private protected override void Take(IReadOnlyList<bool> present, IReadOnlyDictionary<int, Tensor> more) => Take(Buckets, Parameters, present, more);

    /// <summary>A rank's share of whole gradients, in the current dispose scope.</summary>
    internal static IEnumerable<Tensor> Part(GradientBuckets buckets, IReadOnlyList<TrainedParameter> parameters, RankGroup ranks) =>
        from bucket in buckets.Layout
        from piece in bucket.Pieces
        where piece.Rank == ranks.Rank
        let gradient = parameters[piece.Parameter].Parameter.grad
        where gradient is not null
        select gradient.view(-1).narrow(0, piece.Start, piece.Count);

    /// <summary>Makes sums that are not scattered the gradients of their parameters.</summary>
    internal static void Take(GradientBuckets buckets, IReadOnlyList<TrainedParameter> parameters, IReadOnlyList<bool> present, IReadOnlyDictionary<int, Tensor> more)
    {
        using var nothing = no_grad();
        for (var bucket = 0; bucket < buckets.Layout.Count; bucket++)
        {
            foreach (var index in buckets.Layout[bucket].Parameters.Where(i => present[i]))
            {
                using var scope = NewDisposeScope();
                var (parameter, sum) = (parameters[index].Parameter, buckets.Sum(bucket, index));
                parameter.grad = (more.TryGetValue(index, out var late) ? sum.add_(late) : sum).view(parameter.shape);
            }
        }
    }
}
