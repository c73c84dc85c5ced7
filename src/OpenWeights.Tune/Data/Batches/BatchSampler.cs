using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Selects the rows of each step, as a pure function of the step.</summary>
public sealed class BatchSampler
{
    private readonly IReadOnlyList<TokenRow> _rows;
    private readonly bool _shuffle;
    private readonly bool _group;
    private readonly long _seed;
    private readonly int _microBatch;
    private readonly int _rowsPerStep;
    private (long Epoch, int[] Order) _current = (-1, []);

    /// <summary>Creates a sampler.</summary>
    /// <param name="rows">All rows.</param>
    /// <param name="shuffle">Whether the rows are shuffled each epoch.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="microBatch">Rows per micro-batch.</param>
    /// <param name="accumulation">Micro-batches per step.</param>
    /// <param name="groupByLength">Whether rows of similar length are batched together.</param>
    public BatchSampler(IReadOnlyList<TokenRow> rows, bool shuffle, long seed, int microBatch, int accumulation, bool groupByLength = false)
    {
        ArgumentNullException.ThrowIfNull(rows);
        (_rows, _shuffle, _seed, _microBatch, _rowsPerStep, _group) = (rows, shuffle, seed, microBatch, checked(microBatch * accumulation), groupByLength && shuffle);
        StepsPerEpoch = (rows.Count + _rowsPerStep - 1) / _rowsPerStep;
    }

    /// <summary>Steps per epoch; the last one may have fewer rows.</summary>
    public long StepsPerEpoch { get; }

    /// <summary>The largest possible micro-batch: the longest rows.</summary>
    public IReadOnlyList<TokenRow> Longest() => [.. Enumerable.Range(0, _rows.Count).OrderByDescending(LengthOf).Take(_microBatch).Select(i => _rows[i])];

    /// <summary>The micro-batches of a step, from 0.</summary>
    public IReadOnlyList<IReadOnlyList<TokenRow>> Of(long step) => [.. Numbers(step).Select(b => b.Select(i => _rows[i]).ToArray())];

    /// <summary>Fraction of padding in the batches of the first epoch.</summary>
    public double Padding()
    {
        var (all, tokens) = (0L, 0L);
        foreach (var batch in Enumerable.Range(0, (int)StepsPerEpoch).SelectMany(s => Numbers(s)))
        {
            all += (long)batch.Length * batch.Max(LengthOf);
            tokens += batch.Sum(i => (long)LengthOf(i));
        }

        return 1 - ((double)tokens / all);
    }

    private int LengthOf(int row) => RowList.LengthOf(_rows, row);

    // The order alone determines the rows of a step; within the step, rows of similar length share a micro-batch, which changes no sum.
    private IEnumerable<int[]> Numbers(long step)
    {
        var (epoch, position) = Math.DivRem(step, StepsPerEpoch);
        if (_current.Epoch != epoch)
        {
            _current = (epoch, RowOrder.Of(_rows.Count, _shuffle, _seed, epoch));
            if (_group)
            {
                RowOrder.GroupByLength(_current.Order, LengthOf, _seed, epoch);
            }
        }

        var rows = _current.Order.AsSpan((int)position * _rowsPerStep, Math.Min(_rowsPerStep, _rows.Count - ((int)position * _rowsPerStep))).ToArray();
        return (rows.Length > _microBatch ? rows.OrderBy(LengthOf) : rows.AsEnumerable()).Chunk(_microBatch);
    }
}
