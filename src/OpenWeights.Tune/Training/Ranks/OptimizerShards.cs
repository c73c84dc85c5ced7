using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// ZeRO-1 (Rajbhandari et al., 2020): each rank has the optimizer state of a part of the elements of each bucket. It gets the sums of their gradients alone,
/// updates them, and gives them to the others. For optimizers whose update of an element depends on no other element, or on those of its block alone.
/// </summary>
internal sealed class OptimizerShards : RankedModel
{
    private readonly List<(int Bucket, ParameterPiece Piece, TrainedParameter Part)> _own = [];
    private readonly PiecesOptimizer _optimizer;

    /// <summary>Creates the strategy.</summary>
    /// <param name="trained">The model.</param>
    /// <param name="ranks">The ranks.</param>
    /// <param name="settings">The parallel section.</param>
    /// <param name="create">Creates the optimizer of some parameters.</param>
    internal OptimizerShards(ITrainedModel trained, RankGroup ranks, ParallelSection settings, Func<IReadOnlyList<TrainedParameter>, IOptimizer> create)
        : base(trained, ranks, settings, GradientLayout.Block, scatters: true)
    {
        using var nothing = no_grad();
        for (var bucket = 0; bucket < Buckets.Layout.Count; bucket++)
        {
            foreach (var piece in Buckets.Layout[bucket].Pieces.Where(p => p.Rank == ranks.Rank))
            {
                using var scope = NewDisposeScope();
                var whole = Parameters[piece.Parameter];
                var part = new Parameter(whole.Parameter.detach().view(-1).narrow(0, piece.Start, piece.Count), requires_grad: false);
                _ = part.DetachFromDisposeScope();
                _own.Add((bucket, piece, whole with { Parameter = part, Elements = whole.Parameter.numel(), IsHiddenMatrix = false, Pair = null }));
            }
        }

        // As one process has them.
        _own.Sort(static (a, b) => a.Piece.Parameter.CompareTo(b.Piece.Parameter));
        var pieces = Buckets.Layout.SelectMany(static b => b.Pieces).ToLookup(static p => p.Parameter);
        var made = create([.. _own.Select(static o => o.Part)]);
        _optimizer = made is IAveragedWeights ? new AveragedPiecesOptimizer(made, _own, Parameters, pieces, ranks) : new PiecesOptimizer(made, _own, Parameters, pieces, ranks);
    }

    /// <inheritdoc/>
    public override IOptimizer Optimizer => _optimizer;

    private protected override IEnumerable<Tensor> Measured => Owned;

    private protected override IEnumerable<Tensor> Owned => _own.Select(static o => o.Part.Parameter.grad).OfType<Tensor>();

    /// <inheritdoc/>
    public override void Step(double rate, double factor)
    {
        _optimizer.Step(rate, factor);
        Communicate(Share);
    }

    /// <inheritdoc/>
    public override void Drop()
    {
        Gradients.Drop([.. _own.Select(static o => o.Part)]);
        base.Drop();
    }

    /// <inheritdoc/>
    public override IReadOnlyList<TensorToWrite> State() => new StateOfRanks(Ranks, Parameters).Joined(_optimizer.State);

    /// <inheritdoc/>
    public override void FollowState() => SafetensorsWriter.Drop(State());

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        _own.ForEach(static o => o.Part.Parameter.Dispose());
        _own.Clear();
    }

    private protected override void Take(IReadOnlyList<bool> present, IReadOnlyDictionary<int, Tensor> more)
    {
        using var nothing = no_grad();
        foreach (var (bucket, piece, part) in _own.Where(o => present[o.Piece.Parameter]))
        {
            using var scope = NewDisposeScope();
            var sum = Buckets.Sum(bucket, piece);
            part.Parameter.grad = more.TryGetValue(piece.Parameter, out var late) ? sum.add_(late.narrow(0, piece.Start, piece.Count)) : sum;
        }
    }

    // Every rank gets the weights that the others have updated: of a bucket after the other, while the next is on its way.
    private void Share()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var sent = new Queue<(int Bucket, Tensor Values, Tensor Part, IPendingCollective Pending)>();
        for (var next = 0; next < Buckets.Layout.Count; next++)
        {
            sent.Enqueue(Send(next));
            if (sent.Count > 1)
            {
                Receive(sent.Dequeue());
            }
        }

        while (sent.Count > 0)
        {
            Receive(sent.Dequeue());
        }
    }

    private (int Bucket, Tensor Values, Tensor Part, IPendingCollective Pending) Send(int number)
    {
        var bucket = Buckets.Layout[number];
        var first = Parameters[bucket.Parameters[0]].Parameter;
        var (values, part) = (empty([bucket.PartLength * Ranks.Size], first.dtype, first.device), empty([bucket.PartLength], first.dtype, first.device));
        foreach (var (_, piece, own) in _own.Where(o => o.Bucket == number))
        {
            using var scope = NewDisposeScope();
            _ = part.narrow(0, piece.Offset - (piece.Rank * bucket.PartLength), piece.Count).copy_(own.Parameter.detach());
        }

        return (number, values, part, Ranks.Collectives.BeginAllGather(part, values));
    }

    private void Receive((int Bucket, Tensor Values, Tensor Part, IPendingCollective Pending) sent)
    {
        sent.Pending.Wait();
        foreach (var piece in Buckets.Layout[sent.Bucket].Pieces.Where(p => p.Rank != Ranks.Rank))
        {
            using var scope = NewDisposeScope();
            _ = Parameters[piece.Parameter].Parameter.detach().view(-1).narrow(0, piece.Start, piece.Count).copy_(sent.Values.narrow(0, piece.Offset, piece.Count));
        }

        sent.Values.Dispose();
        sent.Part.Dispose();
    }
}
