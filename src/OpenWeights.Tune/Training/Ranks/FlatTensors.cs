using OpenWeights.Tune.Distributed;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// Tensors of one data type, of which each rank keeps a part. While they are gathered they are views of one buffer; otherwise they have their shapes and no memory, and
/// whoever reads them reads numbers that are none.
/// </summary>
internal sealed class FlatTensors : IDisposable
{
    private readonly RankGroup _ranks;
    private readonly IReadOnlyList<Tensor> _tensors;
    private readonly IReadOnlyList<long[]> _shapes;
    private readonly Tensor _nothing;
    private Tensor? _whole;
    private IPendingCollective? _pending;

    /// <summary>Keeps this rank's part of tensors, and frees them.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="tensors">The tensors, of one data type and device, with the same values on all ranks.</param>
    internal FlatTensors(RankGroup ranks, IReadOnlyList<Tensor> tensors)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        (_ranks, _tensors, _shapes, Layout) = (ranks, tensors, [.. tensors.Select(static t => t.shape)], new UnitLayout(tensors.Select(static t => t.numel()), ranks.Size));
        var (dtype, device) = (tensors[0].dtype, tensors[0].device);
        Part = zeros([Layout.PartLength], dtype, device).DetachFromDisposeScope();
        foreach (var piece in Layout.PiecesOf(ranks.Rank))
        {
            _ = Part.narrow(0, piece.Place, piece.Count).copy_(tensors[piece.Tensor].detach().contiguous().view(-1).narrow(0, piece.Start, piece.Count));
        }

        _nothing = (dtype is ScalarType.Float32 or ScalarType.Float64 or ScalarType.BFloat16 or ScalarType.Float16 ? full([1], double.NaN, dtype, device) : zeros([1], dtype, device)).DetachFromDisposeScope();
        Free();
    }

    /// <summary>Where the tensors are.</summary>
    internal UnitLayout Layout { get; }

    /// <summary>The tensors.</summary>
    internal IReadOnlyList<Tensor> Tensors => _tensors;

    /// <summary>This rank's part.</summary>
    internal Tensor Part { get; }

    /// <summary>Whether the tensors have their values.</summary>
    internal bool IsWhole => _whole is not null && _pending is null;

    /// <summary>Whether the tensors have memory, with their values or for what is on its way.</summary>
    internal bool IsGathered => _whole is not null;

    /// <summary>Bytes in memory.</summary>
    internal long Bytes => (Part.numel() + (_whole?.numel() ?? 0)) * Part.element_size();

    /// <summary>Begins to gather the parts, if they are not gathered.</summary>
    internal void Begin()
    {
        if (_whole is not null)
        {
            return;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _whole = empty([Layout.Length], Part.dtype, Part.device).DetachFromDisposeScope();
        _pending = _ranks.Collectives.BeginAllGather(Part, _whole);
    }

    /// <summary>Gathers the parts; afterwards the tensors have their values.</summary>
    internal void Gather()
    {
        Begin();
        if (_pending is null)
        {
            return;
        }

        _pending.Wait();
        _pending = null;
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        for (var i = 0; i < _tensors.Count; i++)
        {
            _ = _tensors[i].set_(_whole!.narrow(0, Layout.Offset(i), _tensors[i].numel()).view(_shapes[i]));
        }
    }

    /// <summary>Takes this rank's part of values that were changed while they were gathered.</summary>
    internal void Keep()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _ = Part.copy_(_whole!.narrow(0, _ranks.Rank * Layout.PartLength, Layout.PartLength));
    }

    /// <summary>Frees what was gathered.</summary>
    internal void Free()
    {
        _pending?.Wait();
        _pending = null;
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        for (var i = 0; i < _tensors.Count; i++)
        {
            _ = _tensors[i].set_(_nothing.expand(_shapes[i]));
        }

        _whole?.Dispose();
        _whole = null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _pending?.Wait();
        _whole?.Dispose();
        Part.Dispose();
        _nothing.Dispose();
    }
}
