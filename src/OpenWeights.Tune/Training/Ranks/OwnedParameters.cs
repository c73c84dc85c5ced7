using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// ZeRO-1 for optimizers that need whole matrices: each rank has the optimizer state of some of the parameters. Gradients are summed for all ranks; each updates its
/// own parameters and gives them to the others.
/// </summary>
internal sealed class OwnedParameters : RankedModel
{
    private readonly int[] _owners;
    private readonly OwnersOptimizer _optimizer;

    /// <summary>Creates the strategy.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="ranks">The ranks.</param>
    /// <param name="settings">The parallel section.</param>
    /// <param name="create">Creates the optimizer of some parameters.</param>
    internal OwnedParameters(ITrainedModel trained, RankGroup ranks, ParallelSection settings, Func<IReadOnlyList<TrainedParameter>, IOptimizer> create)
        : base(trained, ranks, settings, ReplicatedModel.Block, scatters: false)
    {
        _owners = Deal(Parameters, ranks.Size);
        int[] own = [.. Enumerable.Range(0, Parameters.Count).Where(i => _owners[i] == ranks.Rank)];
        _optimizer = new OwnersOptimizer(create([.. own.Select(i => Parameters[i])]), own, Parameters, _owners, ranks);
    }

    /// <inheritdoc/>
    public override IOptimizer Optimizer => _optimizer;

    private protected override IEnumerable<Tensor> Measured => ReplicatedModel.Part(Buckets, Parameters, Ranks);

    private protected override IEnumerable<Tensor> Owned => Parameters.Select(static p => p.Parameter.grad).OfType<Tensor>();

    /// <inheritdoc/>
    public override void Step(double rate, double factor)
    {
        _optimizer.Step(rate, factor);
        Communicate(() =>
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var pending = Parameters.Select((p, i) => Ranks.Collectives.BeginBroadcast(p.Parameter.detach(), _owners[i])).ToList();
            pending.ForEach(static p => p.Wait());
        });
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorToWrite> State() => new StateOfRanks(Ranks, Parameters).Joined(_optimizer.State);

    /// <inheritdoc/>
    public override void FollowState() => SafetensorsWriter.Drop(State());

    /// <summary>The rank that updates each parameter: the largest first, each to the rank that has least.</summary>
    /// <param name="parameters">The parameters.</param>
    /// <param name="ranks">Number of ranks.</param>
    internal static int[] Deal(IReadOnlyList<TrainedParameter> parameters, int ranks)
    {
        var (owners, filled) = (new int[parameters.Count], new long[ranks]);
        foreach (var (index, trained) in parameters.Index().OrderByDescending(static p => p.Item.Parameter.numel()))
        {
            owners[index] = Array.IndexOf(filled, filled.Min());
            filled[owners[index]] += trained.Parameter.numel();
        }

        return owners;
    }

    private protected override void Take(IReadOnlyList<bool> present, IReadOnlyDictionary<int, Tensor> more) => ReplicatedModel.Take(Buckets, Parameters, present, more);

    // The optimizer of this rank's parameters.
    private sealed class OwnersOptimizer(IOptimizer optimizer, int[] own, IReadOnlyList<TrainedParameter> parameters, int[] owners, RankGroup ranks)
        : RankOptimizer(optimizer, parameters, ranks)
    {
        private readonly IReadOnlyList<TrainedParameter> _parameters = parameters;

        private protected override int Divide(int index, long[] counts)
        {
            counts[owners[index]] = _parameters[index].Parameter.numel();
            return Array.IndexOf(own, index);
        }
    }
}
