using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>A weight that a checkpoint holds in several quantised pieces, one below the other.</summary>
internal sealed class JoinedWeight : QuantizedWeight
{
    private readonly IReadOnlyList<QuantizedWeight> _pieces;

    /// <summary>Joins weights, which it owns.</summary>
    /// <param name="pieces">The weights, with the same number of input features.</param>
    internal JoinedWeight(IReadOnlyList<QuantizedWeight> pieces)
        : base(pieces.Sum(static piece => piece.OutFeatures), pieces[0].InFeatures, grain: 1) => _pieces = pieces;

    /// <inheritdoc/>
    public override long ByteLength => _pieces.Sum(static piece => piece.ByteLength);

    /// <inheritdoc/>
    internal override IReadOnlyList<QuantizedWeight> Pieces => _pieces;

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor>? Movable => _pieces.All(static piece => piece.Movable is not null) ? [.. _pieces.SelectMany(static piece => piece.Movable!)] : null;

    /// <inheritdoc/>
    internal override void Moved()
    {
        base.Moved();
        foreach (var piece in _pieces)
        {
            piece.Moved();
        }
    }

    private protected override MatrixRows? RowsInMemory()
    {
        List<MatrixRows> rows = [.. _pieces.Select(static piece => piece.InMemory).OfType<MatrixRows>()];
        return rows.Count == _pieces.Count ? new StackedRows(rows) : null;
    }

    /// <inheritdoc/>
    public override Tensor Rows(long start, long count, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var (parts, above) = (new List<Tensor>(), 0L);
        foreach (var piece in _pieces)
        {
            var (first, end) = (Math.Max(start, above), Math.Min(start + count, above + piece.OutFeatures));
            if (first < end)
            {
                parts.Add(piece.Rows(first - above, end - first, dtype));
            }

            above += piece.OutFeatures;
        }

        return (parts is [var only] ? only : cat([.. parts])).MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var piece in _pieces)
            {
                piece.Dispose();
            }
        }
    }
}
