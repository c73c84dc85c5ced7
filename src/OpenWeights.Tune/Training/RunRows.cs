using OpenWeights.Tune.Data;

namespace OpenWeights.Tune.Training;

/// <summary>Which rows each step trains on, as a pure function of the step.</summary>
public sealed class RunRows
{
    private readonly IReadOnlyList<TokenRow> _rows;
    private readonly bool _shuffle;
    private readonly long _seed;
    private readonly int _microBatch;
    private readonly int _rowsPerStep;
    private (long Epoch, int[] Order) _current = (-1, []);

    /// <summary>The rows of a run.</summary>
    /// <param name="rows">All rows.</param>
    /// <param name="shuffle">Whether each epoch has a random order.</param>
    /// <param name="seed">The run's seed.</param>
    /// <param name="microBatch">Rows of a micro-batch.</param>
    /// <param name="accumulation">Micro-batches of a step.</param>
    public RunRows(IReadOnlyList<TokenRow> rows, bool shuffle, long seed, int microBatch, int accumulation)
    {
        ArgumentNullException.ThrowIfNull(rows);
        (_rows, _shuffle, _seed, _microBatch, _rowsPerStep) = (rows, shuffle, seed, microBatch, checked(microBatch * accumulation));
        StepsPerEpoch = (rows.Count + _rowsPerStep - 1) / _rowsPerStep;
    }

    /// <summary>Steps of an epoch; the last one of each may have fewer rows.</summary>
    public long StepsPerEpoch { get; }

    /// <summary>The largest micro-batch that could come: that of the longest rows.</summary>
    public IReadOnlyList<TokenRow> Longest() => [.. _rows.OrderByDescending(static r => r.Ids.Length).Take(_microBatch)];

    /// <summary>The micro-batches of a step, from 0.</summary>
    public IReadOnlyList<IReadOnlyList<TokenRow>> Of(long step)
    {
        var (epoch, position) = Math.DivRem(step, StepsPerEpoch);
        if (_current.Epoch != epoch)
        {
            _current = (epoch, RowOrder.Of(_rows.Count, _shuffle, _seed, epoch));
        }

        return
        [
            .. _current.Order.Skip((int)position * _rowsPerStep).Take(_rowsPerStep).Select(i => _rows[i]).Chunk(_microBatch),
        ];
    }
}
