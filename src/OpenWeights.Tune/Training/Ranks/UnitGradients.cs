using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// The trained parameters of a layer, or those of no layer: their gradients are summed over ranks after each backward pass, and each rank keeps the sums of its part, and
/// updates the weights of its part.
/// </summary>
internal sealed class UnitGradients : IDisposable
{
    private readonly RankGroup _ranks;
    private readonly IReadOnlyList<(int Index, TrainedParameter Trained)> _trained;
    private readonly FlatTensors? _weights;
    private readonly bool[] _had;
    private Tensor? _sum;
    private (Tensor Values, Tensor Part, IPendingCollective Pending)? _sent;

    /// <summary>Creates the unit.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="trained">The parameters, of one data type and device, with their indexes.</param>
    /// <param name="weights">The same tensors in the same order, if ranks share out their values; null if each has them whole.</param>
    /// <param name="owners">The rank that updates each parameter as a whole; null if each updates a part of the elements.</param>
    internal UnitGradients(RankGroup ranks, IReadOnlyList<(int Index, TrainedParameter Trained)> trained, FlatTensors? weights, IReadOnlyList<int>? owners = null)
    {
        (_ranks, _trained, _weights, _had) = (ranks, trained, weights, new bool[trained.Count]);
        Layout = weights?.Layout ?? new UnitLayout(trained.Select(static t => t.Trained.Parameter.numel()), ranks.Size, owners);
        Pieces = [.. Layout.PiecesOf(ranks.Rank).Select(Piece)];
    }

    /// <summary>Where gradients are in the buffer.</summary>
    internal UnitLayout Layout { get; }

    /// <summary>The pieces that this rank updates.</summary>
    internal IReadOnlyList<TrainedPiece> Pieces { get; }

    /// <summary>The parameters with their indexes.</summary>
    internal IReadOnlyList<(int Index, TrainedParameter Trained)> Trained => _trained;

    /// <summary>Whether this rank had a gradient of each parameter since the last step.</summary>
    internal IReadOnlyList<bool> Had => _had;

    /// <summary>This rank's part of the sums, float32; null before the first. It may include zeros between parameters.</summary>
    internal Tensor? Sum => _sum;

    /// <summary>Bytes of gradients in memory.</summary>
    internal long Bytes => 4 * ((_sum?.numel() ?? 0) + (_sent is { } sent ? sent.Values.numel() + sent.Part.numel() : 0));

    /// <summary>Sends the gradients of a backward pass and frees them.</summary>
    internal void Send()
    {
        Take();
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var device = _trained[0].Trained.Parameter.device;
        var values = zeros([Layout.Length], float32, device);
        for (var i = 0; i < _trained.Count; i++)
        {
            var parameter = _trained[i].Trained.Parameter;
            if (parameter.grad is { } gradient)
            {
                _ = values.narrow(0, Layout.Offset(i), gradient.numel()).copy_(gradient.reshape(-1));
                parameter.grad = null;
                _had[i] = true;
            }
        }

        var part = Layout.IsDealt ? empty([0], float32, device) : empty([Layout.PartLength], float32, device);
        var pending = Layout.IsDealt ? _ranks.Collectives.BeginAllReduceSum(values) : _ranks.Collectives.BeginReduceScatterSum(values, part);
        _sent = (values.DetachFromDisposeScope(), part.DetachFromDisposeScope(), pending);
    }

    /// <summary>Adds what was sent to the sums.</summary>
    internal void Take()
    {
        if (_sent is not { } sent)
        {
            return;
        }

        _sent = null;
        sent.Pending.Wait();
        using var nothing = no_grad();
        var part = sent.Part;
        if (Layout.IsDealt && Pieces.Count > 0)
        {
            using var scope = NewDisposeScope();
            part.Dispose();
            part = cat([.. Layout.PiecesOf(_ranks.Rank).Select(p => sent.Values.narrow(0, Layout.Offset(p.Tensor), p.Count))]).DetachFromDisposeScope();
        }

        sent.Values.Dispose();
        if (_sum is null)
        {
            _sum = part;
            return;
        }

        _ = _sum.add_(part);
        part.Dispose();
    }

    /// <summary>Makes the sums the gradients of the pieces.</summary>
    /// <param name="present">Whether some rank has a gradient of a parameter, by its index.</param>
    internal void Give(IReadOnlyList<bool> present)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var piece in Pieces)
        {
            piece.Trained.Parameter.grad = _sum is not null && present[piece.Of] ? _sum.narrow(0, piece.Place, piece.Count).view(piece.Trained.Parameter.shape) : null;
        }
    }

    /// <summary>Gives all ranks the weights that each has updated.</summary>
    internal void Spread()
    {
        // Weights that are shared out are gathered when they are needed.
        if (_weights is null && !_ranks.IsAlone)
        {
            Spread([.. _trained.Select(static t => t.Trained.Parameter.detach())], static p => p.Trained.Parameter.detach());
        }
    }

    /// <summary>Gives all ranks the sums of all.</summary>
    /// <param name="present">As for <see cref="Give"/>.</param>
    internal void GiveWhole(IReadOnlyList<bool> present)
    {
        Tensor[] whole = [.. _trained.Select(static t => zeros(t.Trained.Parameter.shape, float32, t.Trained.Parameter.device))];
        Spread(whole, static p => p.Trained.Parameter.grad ?? zeros(p.Trained.Parameter.shape, float32, p.Trained.Parameter.device));
        foreach (var ((index, trained), gradient) in _trained.Zip(whole))
        {
            trained.Parameter.grad = present[index] ? gradient : null;
        }
    }

    // Gives all ranks the pieces that each has of some tensors, one for each parameter.
    private void Spread(IReadOnlyList<Tensor> all, Func<TrainedPiece, Tensor> own)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (Layout.IsDealt)
        {
            foreach (var (piece, place) in Pieces.Zip(Layout.PiecesOf(_ranks.Rank)))
            {
                _ = all[place.Tensor].copy_(own(piece));
            }

            var pending = all.Select((t, i) => _ranks.Collectives.BeginBroadcast(t, Layout.OwnerOf(i))).ToList();
            pending.ForEach(static p => p.Wait());
            return;
        }

        var (part, whole) = (zeros([Layout.PartLength], all[0].dtype, all[0].device), empty([Layout.Length], all[0].dtype, all[0].device));
        foreach (var piece in Pieces)
        {
            _ = part.narrow(0, piece.Place, piece.Count).copy_(own(piece));
        }

        _ranks.Collectives.BeginAllGather(part, whole).Wait();
        for (var i = 0; i < all.Count; i++)
        {
            _ = all[i].copy_(whole.narrow(0, Layout.Offset(i), all[i].numel()).view(all[i].shape));
        }
    }

    /// <summary>Frees all gradients.</summary>
    internal void Drop()
    {
        Take();
        _sum?.Dispose();
        _sum = null;
        Array.Clear(_had);
        foreach (var piece in Pieces)
        {
            piece.Trained.Parameter.grad = null;
        }

        foreach (var (_, trained) in _trained)
        {
            trained.Parameter.grad = null;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Drop();
        foreach (var piece in Pieces)
        {
            piece.Trained.Parameter.Dispose();
        }
    }

    // A view of the weights, which the optimizer changes in place.
    private TrainedPiece Piece(UnitPiece piece)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (index, whole) = _trained[piece.Tensor];
        var values = _weights is null ? whole.Parameter.detach().view(-1).narrow(0, piece.Start, piece.Count) : _weights.Part.narrow(0, piece.Place, piece.Count);
        var parameter = new Parameter(Layout.IsDealt ? values.view(whole.Parameter.shape) : values.alias(), requires_grad: true);
        _ = parameter.DetachFromDisposeScope();
        if (Layout.IsDealt)
        {
            return new TrainedPiece(whole with { Parameter = parameter }, index, whole.Name, piece.Start, piece.Count, piece.Place);
        }

        var trained = whole with { Name = PieceFiles.NameOf(whole.Name, piece.Start, piece.Count), Parameter = parameter, Elements = whole.Parameter.numel(), IsHiddenMatrix = whole.IsHiddenMatrix };
        return new TrainedPiece(trained, index, whole.Name, piece.Start, piece.Count, piece.Place);
    }
}

/// <summary>A piece of a trained parameter, which a rank updates.</summary>
/// <param name="Trained">The piece as a parameter: a view of the weights.</param>
/// <param name="Of">Index of the whole parameter.</param>
/// <param name="Name">Name of the whole parameter.</param>
/// <param name="Start">First element within it.</param>
/// <param name="Count">Number of elements.</param>
/// <param name="Place">First element within the rank's part of its unit.</param>
internal sealed record TrainedPiece(TrainedParameter Trained, int Of, string Name, long Start, long Count, long Place);
