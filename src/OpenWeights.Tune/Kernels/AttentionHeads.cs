namespace OpenWeights.Tune.Kernels;

/// <summary>One thread's part of <see cref="AttentionKernel"/>: one key/value head at a time, with all its query heads.</summary>
internal sealed unsafe class AttentionHeads<TVectors, TVector>
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    // Number of keys (and values) whose gradients are accumulated at once; query rows that attend to none of them are skipped.
    private const nint GradientKeys = 8 * TileProduct.TileRows;
    private const nint ValueKeys = 96;

    private readonly AttentionProblem _problem;
    private readonly AttentionResults _results;
    private readonly AttentionSizes _sizes;
    private readonly HeadStates _queries;
    private readonly HeadStates _keys;
    private readonly HeadStates _values;
    private readonly int _parts;

    // [keys, width] or in strips [keys / strip, width, strip]; [rows, width]; [rows, stride].
    private readonly float* _keyStrips;
    private readonly float* _rowsOfKeys;
    private readonly float* _valueStrips;
    private readonly float* _gradKeys;
    private readonly float* _gradValues;
    private readonly float* _query;
    private readonly float* _result;
    private readonly float* _given;
    private readonly float* _weights;
    private readonly float* _gradScores;
    private readonly float* _slopes;
    private readonly (nint First, nint End)[] _seen;
    private readonly float[] _factors;
    private float _sinkExponential;

    internal AttentionHeads(AttentionProblem problem, AttentionResults results, AttentionSizes sizes, float* scratch, int parts)
    {
        (_problem, _results, _sizes, _parts) = (problem, results, sizes, parts);
        (_queries, _keys, _values) = (new HeadStates(problem.Query), new HeadStates(problem.Key), new HeadStates(problem.Value));
        (_seen, _factors) = (new (nint, nint)[sizes.Rows], new float[sizes.Rows]);
        var (states, rows) = (sizes.Keys * sizes.Width, sizes.Rows * sizes.Width);
        _keyStrips = scratch;
        _rowsOfKeys = _keyStrips + states;
        _query = _rowsOfKeys + states;
        _result = _query + rows;
        _weights = _result + rows;

        // Used only in backward.
        _gradScores = _weights + (sizes.Rows * sizes.Stride);
        _given = _gradScores + (sizes.Rows * sizes.Stride);
        _valueStrips = _given + rows;
        _gradKeys = _valueStrips + states;
        _gradValues = _gradKeys + states;
        _slopes = _gradValues + states;
        GradSinks = problem.Sinks is null ? null : new float[problem.Heads];
    }

    /// <summary>Sums of the gradients of the attention sinks, by query head; null if there are none.</summary>
    internal float[]? GradSinks { get; }

    /// <summary>Processes a part of the queries of a key/value head of one batch row.</summary>
    internal void Run(int task, bool backward)
    {
        var part = task % _parts;
        var head = (task / _parts / _problem.KeyValueHeads, task / _parts % _problem.KeyValueHeads);
        if (backward)
        {
            Backward(head, part);
        }
        else
        {
            Forward(head, part);
        }
    }

    private void Forward((long Batch, long Head) head, int part)
    {
        // The key buffer is reused for the values afterwards.
        ReadAll(_keys, head, _rowsOfKeys);
        Strips(_rowsOfKeys, _keyStrips);
        ReadAll(_values, head, _rowsOfKeys);
        foreach (var block in Blocks(head, part))
        {
            _queries.Read((head.Batch, block.Head), (block.Start, block.Count), _problem.Width, _query, _sizes.Width, _problem.Scale);
            Scores(block, _query, _keyStrips, _weights);
            for (nint row = 0; row < block.Count; row++)
            {
                _factors[row] = (float)(1 / Exponentials(head.Batch, block, row, null));
            }

            WeightedSum(block, _weights, _rowsOfKeys);
            for (nint row = 0; row < block.Count; row++)
            {
                _results.Queries.Write((head.Batch, block.Head), block.Start + row, _result + (row * _sizes.Width), _problem.Width, _factors[row]);
            }
        }
    }

    private void Backward((long Batch, long Head) head, int part)
    {
        ReadAll(_values, head, _gradValues);
        Strips(_gradValues, _valueStrips);
        ReadAll(_keys, head, _rowsOfKeys);
        Strips(_rowsOfKeys, _keyStrips);
        new Span<float>(_gradKeys, checked((int)(2 * _sizes.Keys * _sizes.Width))).Clear();
        foreach (var block in Blocks(head, part))
        {
            _queries.Read((head.Batch, block.Head), (block.Start, block.Count), _problem.Width, _query, _sizes.Width, _problem.Scale);
            _results.Given.Read((head.Batch, block.Head), (block.Start, block.Count), _problem.Width, _given, _sizes.Width);
            Scores(block, _query, _keyStrips, _weights);
            Scores(block, _given, _valueStrips, _gradScores);
            for (nint row = 0; row < block.Count; row++)
            {
                Slope(block, row, (float)(1 / Exponentials(head.Batch, block, row, _slopes)));
            }

            AddTransposed(block, _weights, _given, _gradValues);
            AddTransposed(block, _gradScores, _query, _gradKeys);
            WeightedSum(block, _gradScores, _rowsOfKeys);
            for (nint row = 0; row < block.Count; row++)
            {
                _results.Queries.Write((head.Batch, block.Head), block.Start + row, _result + (row * _sizes.Width), _problem.Width, _problem.Scale);
            }
        }

        for (nint row = 0; row < _problem.Keys; row++)
        {
            var place = ((part * _problem.Batch) + head.Batch, head.Head);
            _results.Keys.Write(place, row, _gradKeys + (row * _sizes.Width), _problem.Width, 1);
            _results.Values.Write(place, row, _gradValues + (row * _sizes.Width), _problem.Width, 1);
        }
    }

    private void ReadAll(HeadStates states, (long Batch, long Head) head, float* to)
    {
        states.Read(head, (0, _problem.Keys), _problem.Width, to, _sizes.Width);
        new Span<float>(to + (_problem.Keys * _sizes.Width), (int)((_sizes.Keys - _problem.Keys) * _sizes.Width)).Clear();
    }

    // [keys, width] to [keys / strip, width, strip].
    private void Strips(float* from, float* to)
    {
        var (width, strip) = (_sizes.Width, _sizes.Strip);
        for (nint key = 0; key < _sizes.Keys; key += strip)
        {
            for (nint i = 0; i < width; i++)
            {
                var row = to + (key * width) + (i * strip);
                var column = from + (key * width) + i;
                for (nint j = 0; j < strip; j++)
                {
                    row[j] = column[j * width];
                }
            }
        }
    }

    // The query blocks of a part, for each query head of a key/value head.
    private IEnumerable<Block> Blocks((long Batch, long Head) head, int part)
    {
        for (var start = part * _sizes.Rows; start < _problem.Queries; start += _parts * _sizes.Rows)
        {
            var count = Math.Min(_sizes.Rows, _problem.Queries - start);
            var first = _problem.Keys;
            for (nint row = 0; row < count; row++)
            {
                _seen[row] = _problem.Seen(head.Batch, start + row);
                first = Math.Min(first, _seen[row].First);
            }

            first = first / _sizes.Strip * _sizes.Strip;
            var keys = (_seen[count - 1].End - first + _sizes.Strip - 1) / _sizes.Strip * _sizes.Strip;
            for (var i = 0; i < _problem.Group; i++)
            {
                yield return new Block((head.Head * _problem.Group) + i, start, count, first, keys, _seen[0].End);
            }
        }
    }

    // Scores [rows, keys] of a block, up to the last key that its rows attend to.
    private void Scores(in Block block, float* rows, float* strips, float* to)
    {
        for (nint key = 0; key < block.Keys; key += _sizes.Strip)
        {
            var row = block.FirstRow(key) / TileProduct.TileRows * TileProduct.TileRows;
            var left = new TileProduct.Factor(rows + (row * _sizes.Width), _sizes.Width, 1);
            var target = new TileProduct.Target(to + (row * _sizes.Stride) + key, _sizes.Stride, adds: false);
            TileProduct.Run<TVectors, TVector>(left, strips + ((block.First + key) * _sizes.Width), _sizes.Strip, target, block.Count - row, _sizes.Strip, _sizes.Width);
        }
    }

    // Exponentials of a row's scores in place, zeros where masked, and their sum with that of the sink; and the derivative of the soft cap.
    private double Exponentials(long batch, in Block block, nint row, float* slopes)
    {
        var (first, end) = Visible(block, row);
        var start = _weights + (row * _sizes.Stride);
        new Span<float>(start, (int)first).Clear();
        new Span<float>(start + end, (int)(block.Keys - end)).Clear();
        if (_problem.Cap is { } cap)
        {
            VectorFunctions.Limit<TVectors, TVector>(start + first, end - first, cap, slopes);
        }

        if (_problem.Shown(batch, block.Start + row) is var shown && shown != null)
        {
            Hide(shown + block.First + first, start + first, end - first);
        }

        var largest = VectorFunctions.Largest<TVectors, TVector>(start + first, end - first);
        if (_problem.Sinks is not { } sinks)
        {
            return VectorFunctions.Exponentials<TVectors, TVector>(start + first, end - first, largest);
        }

        largest = Math.Max(largest, sinks[block.Head]);
        _sinkExponential = MathF.Exp(sinks[block.Head] - largest);
        return VectorFunctions.Exponentials<TVectors, TVector>(start + first, end - first, largest) + _sinkExponential;
    }

    private static void Hide(byte* shown, float* scores, nint count)
    {
        nint i = 0;
        for (; i <= count - TVectors.Width; i += TVectors.Width)
        {
            TVectors.Store(scores + i, TVectors.Where(shown + i, TVectors.Load(scores + i)));
        }

        for (; i < count; i++)
        {
            scores[i] = shown[i] == 0 ? float.NegativeInfinity : scores[i];
        }
    }

    // Normalizes a row's exponentials to weights, and replaces the gradient of its weights by that of its scores.
    private void Slope(in Block block, nint row, float factor)
    {
        var (first, end) = Visible(block, row);
        var weights = _weights + (row * _sizes.Stride);
        var slope = _gradScores + (row * _sizes.Stride);
        VectorFunctions.Scale<TVectors, TVector>(weights + first, end - first, factor);
        var sum = VectorFunctions.SoftmaxGradient<TVectors, TVector>(weights + first, slope + first, end - first);
        if (GradSinks is not null)
        {
            // p (dp - sum of p dp), where dp is 0: a sink has no value.
            GradSinks[block.Head] -= _sinkExponential * factor * sum;
        }

        if (_problem.Cap is not null)
        {
            VectorFunctions.Multiply<TVectors, TVector>(slope + first, _slopes, end - first);
        }

        new Span<float>(slope, (int)first).Clear();
        new Span<float>(slope + end, (int)(block.Keys - end)).Clear();
    }

    // result = weights [rows, keys] x states [keys, width].
    private void WeightedSum(in Block block, float* weights, float* states)
    {
        for (nint key = 0; key < block.Keys; key += ValueKeys)
        {
            var row = block.FirstRow(key) / TileProduct.TileRows * TileProduct.TileRows;
            var left = new TileProduct.Factor(weights + (row * _sizes.Stride) + key, _sizes.Stride, 1);
            var target = new TileProduct.Target(_result + (row * _sizes.Width), _sizes.Width, adds: key > 0);
            TileProduct.Run<TVectors, TVector>(
                left, states + ((block.First + key) * _sizes.Width), _sizes.Width, target, block.Count - row, _sizes.Width, Math.Min(ValueKeys, block.Keys - key));
        }
    }

    // sum += weightsᵀ [keys, rows] x states [rows, width].
    private void AddTransposed(in Block block, float* weights, float* states, float* sum)
    {
        for (nint key = 0; key < block.Keys; key += GradientKeys)
        {
            var row = block.FirstRow(key);
            var left = new TileProduct.Factor(weights + (row * _sizes.Stride) + key, 1, _sizes.Stride);
            var target = new TileProduct.Target(sum + ((block.First + key) * _sizes.Width), _sizes.Width, adds: true);
            TileProduct.Run<TVectors, TVector>(
                left, states + (row * _sizes.Width), _sizes.Width, target, Math.Min(GradientKeys, block.Keys - key), _sizes.Width, block.Count - row);
        }
    }

    private (nint First, nint End) Visible(in Block block, nint row) => (_seen[row].First - block.First, _seen[row].End - block.First);

    /// <summary>A block of queries of a head, and the whole strips of keys that they can attend to.</summary>
    private readonly record struct Block(long Head, nint Start, nint Count, nint First, nint Keys, nint EndOfFirstRow)
    {
        /// <summary>
        /// The first row that attends to a given key, relative to the block, or one past it; each row attends to one key more than the
        /// previous.
        /// </summary>
        internal nint FirstRow(nint key) => Math.Clamp(First + key - EndOfFirstRow + 1, 0, Count);
    }
}
