using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Selects the rows of each step, as a pure function of the step.</summary>
internal sealed class BatchSampler
{
    private readonly IReadOnlyList<TokenRow> _rows;
    private readonly bool _shuffle;
    private readonly bool _group;
    private readonly bool _sorts;
    private readonly int _rowsPerExample;
    private readonly int _examples;
    private readonly long _seed;
    private readonly int _microBatch;
    private readonly int _examplesPerStep;
    private readonly IReadOnlyList<int[]>? _groups;
    private readonly int _stepsPerBatch = 1;
    private (long Epoch, int[] Order) _current = (-1, []);

    /// <summary>Creates a sampler.</summary>
    /// <param name="rows">All rows.</param>
    /// <param name="shuffle">Whether the rows are shuffled each epoch.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="microBatch">Examples per micro-batch.</param>
    /// <param name="accumulation">Micro-batches per step.</param>
    /// <param name="groupByLength">Whether rows of similar length are batched together.</param>
    /// <param name="rowsPerExample">Number of consecutive rows that make an example: 2 for pairs.</param>
    /// <param name="keepsOrder">Whether the rows of a step keep their order, instead of sharing micro-batches with rows of similar length.</param>
    public BatchSampler(
        IReadOnlyList<TokenRow> rows, bool shuffle, long seed, int microBatch, int accumulation, bool groupByLength = false, int rowsPerExample = 1, bool keepsOrder = false)
    {
        ArgumentNullException.ThrowIfNull(rows);
        (_rows, _shuffle, _seed, _microBatch, _examplesPerStep, _group) = (rows, shuffle, seed, microBatch, checked(microBatch * accumulation), groupByLength && shuffle);
        (_rowsPerExample, _examples, _sorts) = (rowsPerExample, rows.Count / rowsPerExample, !keepsOrder);
        StepsPerEpoch = (_examples + _examplesPerStep - 1) / _examplesPerStep;
    }

    /// <summary>Creates a sampler of batches that several steps share, each of whole groups of rows; what is left at the end of an epoch is not used.</summary>
    /// <param name="rows">All rows.</param>
    /// <param name="groups">The rows of each group.</param>
    /// <param name="shuffle">Whether the groups are shuffled each epoch.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="groupsPerBatch">Groups per batch; there are at least as many.</param>
    /// <param name="stepsPerBatch">Number of consecutive steps that have the same rows.</param>
    internal BatchSampler(IReadOnlyList<TokenRow> rows, IReadOnlyList<int[]> groups, bool shuffle, long seed, int groupsPerBatch, int stepsPerBatch)
    {
        (_rows, _groups, _shuffle, _seed, _microBatch, _examplesPerStep, _stepsPerBatch) = (rows, groups, shuffle, seed, groupsPerBatch, groupsPerBatch, stepsPerBatch);
        (_rowsPerExample, _examples) = (1, groups.Count);
        StepsPerEpoch = groups.Count / groupsPerBatch * stepsPerBatch;
    }

    /// <summary>Steps per epoch; the last one may have fewer rows.</summary>
    public long StepsPerEpoch { get; }

    /// <summary>The largest possible micro-batch: the longest rows.</summary>
    public IReadOnlyList<TokenRow> Longest() => [.. RowsOf([.. Enumerable.Range(0, _examples).OrderByDescending(LengthOf).Take(_microBatch)])];

    /// <summary>The micro-batches of a step, from 0.</summary>
    public IReadOnlyList<IReadOnlyList<TokenRow>> Of(long step) => [.. Numbers(step).Select(b => RowsOf(b).ToArray())];

    /// <summary>Fraction of padding in the batches of the first epoch.</summary>
    public double Padding()
    {
        var (all, tokens) = (0L, 0L);
        foreach (var batch in Enumerable.Range(0, (int)StepsPerEpoch).SelectMany(s => Numbers(s)))
        {
            all += (long)(_groups is null ? batch.Length * _rowsPerExample : batch.Sum(e => _groups[e].Length)) * batch.Max(LengthOf);
            tokens += Numbered(batch).Sum(i => (long)RowList.LengthOf(_rows, i));
        }

        return 1 - ((double)tokens / all);
    }

    private int LengthOf(int example) => RowsOf(example).Max(i => RowList.LengthOf(_rows, i));

    private IEnumerable<int> Numbered(int[] examples) => examples.SelectMany(RowsOf);

    private IEnumerable<int> RowsOf(int example) => _groups?[example] ?? Enumerable.Range(example * _rowsPerExample, _rowsPerExample);

    private IEnumerable<TokenRow> RowsOf(int[] examples) => Numbered(examples).Select(i => _rows[i]);

    // The order alone determines the examples of a step; within the step, examples of similar length share a micro-batch, which changes no sum.
    private IEnumerable<int[]> Numbers(long step)
    {
        var (epoch, position) = Math.DivRem(step / _stepsPerBatch, StepsPerEpoch / _stepsPerBatch);
        if (_current.Epoch != epoch)
        {
            _current = (epoch, RowOrder.Of(_examples, _shuffle, _seed, epoch));
            if (_group)
            {
                RowOrder.GroupByLength(_current.Order, LengthOf, _seed, epoch);
            }
        }

        var examples = _current.Order.AsSpan((int)position * _examplesPerStep, Math.Min(_examplesPerStep, _examples - ((int)position * _examplesPerStep))).ToArray();
        return (_sorts && examples.Length > _microBatch ? examples.OrderBy(LengthOf) : examples.AsEnumerable()).Chunk(_microBatch);
    }
}
