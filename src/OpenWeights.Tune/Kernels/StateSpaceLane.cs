namespace OpenWeights.Tune.Kernels;

/// <summary>One thread's part of <see cref="StateSpaceKernel"/>: some heads of a group of one row of the batch, chunk by chunk.</summary>
internal sealed unsafe partial class StateSpaceLane<TVectors, TVector> : ChunkLane<TVectors, TVector>
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    private const nint Chunk = StateSpaceKernel.Chunk;

    private readonly StateSpaceMemory _memory;
    private readonly long _batch;
    private readonly long _group;
    private readonly long _part;
    private readonly (long First, long End) _heads;
    private readonly nint _width;
    private readonly nint _size;
    private readonly nint _wide;
    private readonly nint _deep;
    private readonly nint _numbers;

    // [chunk, deep] and [deep, chunk]; [chunk, chunk]; [chunk, wide] and [wide, chunk]; the states of each head, [deep, wide].
    private readonly float* _keys;
    private readonly float* _queries;
    private readonly float* _keyColumns;
    private readonly float* _queryColumns;
    private readonly float* _gradKeyColumns;
    private readonly float* _gradQueryColumns;
    private readonly float* _stateColumns;
    private readonly float* _products;
    private readonly float* _gradProducts;
    private readonly float* _weights;
    private readonly float* _decays;
    private readonly float* _gradWeights;
    private readonly float* _x;
    private readonly float* _given;
    private readonly float* _result;
    private readonly float* _passing;
    private readonly float* _columns;
    private readonly float* _start;
    private readonly float* _states;

    // [chunk] each.
    private readonly float* _steps;
    private readonly float* _sums;
    private readonly float* _fromStart;
    private readonly float* _toEnd;
    private readonly float* _ofSums;
    private readonly float* _ofSteps;
    private readonly float* _scaled;
    private readonly int* _firsts;

    /// <summary>Reserves the buffers of a task.</summary>
    /// <param name="memory">The tensors.</param>
    /// <param name="task">The task: row of the batch, group, and part of its heads.</param>
    internal StateSpaceLane(StateSpaceMemory memory, int task)
    {
        _memory = memory;
        var (sizes, parts) = (memory.Sizes, memory.Parts);
        (_batch, _group, _part) = (task / parts / sizes.Groups, task / parts % sizes.Groups, task % parts);
        var own = sizes.Heads / sizes.Groups;
        _heads = ((_group * own) + (own * _part / parts), (_group * own) + (own * (_part + 1) / parts));
        (_width, _size) = ((nint)sizes.Width, (nint)sizes.Size);
        (_wide, _deep) = (Whole(_width), Whole(_size));
        _numbers = _deep * _wide;
        nint rows = Chunk * _deep, square = Chunk * Chunk, values = Chunk * _wide;
        var total = (7 * rows) + (5 * square) + (5 * values) + _numbers + ((nint)(_heads.End - _heads.First) * _numbers) + (8 * Chunk);
        Reserve(total);
        _keys = Take(rows);
        _queries = Take(rows);
        _keyColumns = Take(rows);
        _queryColumns = Take(rows);
        _gradKeyColumns = Take(rows);
        _gradQueryColumns = Take(rows);
        _stateColumns = Take(rows);
        _products = Take(square);
        _gradProducts = Take(square);
        _weights = Take(square);
        _decays = Take(square);
        _gradWeights = Take(square);
        _x = Take(values);
        _given = Take(values);
        _result = Take(values);
        _passing = Take(values);
        _columns = Take(values);
        _start = Take(_numbers);
        _states = Take((nint)(_heads.End - _heads.First) * _numbers);
        _steps = Take(Chunk);
        _sums = Take(Chunk);
        _fromStart = Take(Chunk);
        _toEnd = Take(Chunk);
        _ofSums = Take(Chunk);
        _ofSteps = Take(Chunk);
        _scaled = Take(Chunk);
        _firsts = (int*)Take(Chunk);
    }

    /// <summary>Computes the outputs and states.</summary>
    internal void Forward()
    {
        ReadStates();
        for (long chunk = 0; chunk < _memory.Chunks; chunk++)
        {
            var span = ReadGroup(chunk);
            for (var head = _heads.First; head < _heads.End; head++)
            {
                var states = States(head);
                Begin(span, head);
                if (_memory.Starts != null)
                {
                    Copy(states, _wide, _memory.Starts + Mark(head, chunk), _width, _size, _width);
                }

                Weigh(span);
                _memory.X.Read((_batch, head), (span.First, span.Count), _width, _x, _wide);
                Product(new(_weights, Chunk, 1), _x, _wide, new(_result, _wide, adds: false), span.Count, _wide, span.Count);
                AddSkipped(head, _x, span.Count);
                if (chunk > 0 || _memory.HasState)
                {
                    Product(new(_queries, _deep, 1), states, _wide, new(_passing, _wide, adds: false), span.Count, _wide, _size);
                    AddScaled(_passing, _result, _fromStart, span.Count);
                }

                for (nint row = 0; row < span.Count; row++)
                {
                    _memory.Output.Write((_batch, head), span.First + row, _result + (row * _wide), _width, 1);
                }

                // The states decay to the end of the chunk, as does what its tokens add.
                ScaleRows(_x, _wide, ByStep(_toEnd, span.Count), span.Count);
                VectorFunctions.Scale<TVectors, TVector>(states, _size * _wide, End(span));
                Product(new(_keyColumns, Chunk, 1), _x, _wide, new(states, _wide, adds: true), _size, _wide, span.Count);
            }
        }

        WriteStates();
    }

    // Products of B and C of a chunk, [chunk, chunk].
    private Part ReadGroup(long chunk)
    {
        var first = chunk * Chunk;
        var span = new Part(first, (nint)Math.Min(Chunk, _memory.Tokens - first));
        _memory.Keys.Read((_batch, _group), (first, span.Count), _size, _keys, _deep);
        _memory.Queries.Read((_batch, _group), (first, span.Count), _size, _queries, _deep);
        Transpose(_keys, _deep, _keyColumns, Chunk, span.Count, _deep);
        Product(new(_queries, _deep, 1), _keyColumns, Chunk, new(_products, Chunk, adds: false), span.Count, Chunk, _size);
        return span;
    }

    // The time steps of a head, the sums of the decays' logarithms, and what is left of the states at the start and at the end.
    private void Begin(in Part span, long head)
    {
        var (sum, first, heads) = (0f, 0, _memory.Sizes.Heads);
        var rate = _memory.Rates[head];
        foreach (var numbers in (ReadOnlySpan<nint>)[(nint)_steps, (nint)_ofSums, (nint)_ofSteps, (nint)_fromStart, (nint)_toEnd])
        {
            Clear((float*)numbers, Chunk);
        }

        for (nint i = 0; i < span.Count; i++)
        {
            var token = (_batch * _memory.Tokens) + span.First + i;
            first = _memory.Continues != null && _memory.Continues[token] == 0 ? (int)i + 1 : first;
            _steps[i] = _memory.Step[(token * heads) + head];
            _sums[i] = sum += _steps[i] * rate;
            _fromStart[i] = first == 0 ? MathF.Exp(sum) : 0;
            _firsts[i] = first;
        }

        for (nint i = 0; i < span.Count; i++)
        {
            _toEnd[i] = _firsts[i] == first ? MathF.Exp(sum - _sums[i]) : 0;
        }

        new Span<float>(_sums + span.Count, (int)(Chunk - span.Count)).Fill(sum);
    }

    // The decays from each token (column) to each later one (row) of its document, and those times the product and the time step.
    private void Weigh(in Part span)
    {
        for (nint i = 0; i < span.Count; i++)
        {
            var (row, sum, first) = (i * Chunk, TVectors.Create(_sums[i]), Math.Max(0, _firsts[i] - 1));
            Clear(_decays + row, Chunk);
            Clear(_weights + row, Chunk);
            for (nint j = first / TVectors.Width * TVectors.Width; j <= i; j += TVectors.Width)
            {
                TVectors.Store(_decays + row + j, VectorFunctions.Exponential<TVectors, TVector>(TVectors.Smaller(TVectors.Zero, TVectors.Subtract(sum, TVectors.Load(_sums + j)))));
            }

            Clear(_decays + row, first);
            Clear(_decays + row + i + 1, Chunk - i - 1);
            for (nint j = 0; j <= i; j += TVectors.Width)
            {
                var decayed = TVectors.Multiply(TVectors.Load(_decays + row + j), TVectors.Load(_steps + j));
                TVectors.Store(_weights + row + j, TVectors.Multiply(decayed, TVectors.Load(_products + row + j)));
            }
        }
    }

    private float End(in Part span) => _fromStart[span.Count - 1];

    // A factor of each token times its time step.
    private float* ByStep(float* factors, nint count)
    {
        Clear(_scaled, Chunk);
        for (nint i = 0; i < count; i++)
        {
            _scaled[i] = factors[i] * _steps[i];
        }

        return _scaled;
    }

    // to += from times a factor of each row.
    private void AddScaled(float* from, float* to, float* factors, nint rows)
    {
        for (nint row = 0; row < rows; row++)
        {
            var factor = TVectors.Create(factors[row]);
            for (nint i = row * _wide; i < (row + 1) * _wide; i += TVectors.Width)
            {
                TVectors.Store(to + i, TVectors.MultiplyAdd(TVectors.Load(from + i), factor, TVectors.Load(to + i)));
            }
        }
    }

    // The share of x, or of its gradient, that passes by the states.
    private void AddSkipped(long head, float* from, nint rows)
    {
        var factor = TVectors.Create(_memory.Skip[head]);
        for (nint i = 0; i < rows * _wide; i += TVectors.Width)
        {
            TVectors.Store(_result + i, TVectors.MultiplyAdd(TVectors.Load(from + i), factor, TVectors.Load(_result + i)));
        }
    }

    private void ReadStates()
    {
        for (var head = _heads.First; head < _heads.End; head++)
        {
            Copy(Held(head), _width, States(head), _wide, _size, _width);
        }
    }

    private void WriteStates()
    {
        for (var head = _heads.First; head < _heads.End; head++)
        {
            Copy(States(head), _wide, Held(head), _width, _size, _width);
        }
    }

    private float* States(long head) => _states + ((nint)(head - _heads.First) * _numbers);

    private float* Held(long head) => _memory.States + (((_batch * _memory.Sizes.Heads) + head) * _size * _width);

    // Where a chunk's states begin among the starts.
    private long Mark(long head, long chunk) => ((((_batch * _memory.Sizes.Heads) + head) * _memory.Chunks) + chunk) * _size * _width;

    /// <summary>The tokens of a chunk.</summary>
    private readonly record struct Part(long First, nint Count);
}
