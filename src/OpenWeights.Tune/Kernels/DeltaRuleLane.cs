namespace OpenWeights.Tune.Kernels;

/// <summary>One thread's part of <see cref="DeltaRuleKernel"/>: one value head, chunk by chunk.</summary>
/// <remarks>
/// With S the matrix before a chunk, G the sums of the decays' logarithms in it, and all decays between tokens within D:
/// <code>
/// A = β (k kᵀ ∘ D), below the diagonal     P = q kᵀ ∘ D, up to it
/// X = v - (k e^G) S                        (I + A) V = β X
/// read = P V + (q e^G) S                   next S = e^(last G) S + (k e^(last G - G))ᵀ V
/// </code>
/// </remarks>
internal sealed unsafe class DeltaRuleLane<TVectors, TVector> : ChunkLane<TVectors, TVector>
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    private const nint Chunk = DeltaRuleKernel.Chunk;

    private readonly DeltaRuleMemory _memory;
    private readonly DecayedPairs<TVectors, TVector> _pairs;
    private readonly long _heads;
    private readonly long _chunks;
    private readonly nint _keyWidth;
    private readonly nint _valueWidth;
    private readonly nint _deep;
    private readonly nint _wide;
    private readonly float* _states;
    private readonly float* _start;
    private readonly float* _turned;

    // [chunk, deep].
    private readonly float* _toEnd;
    private readonly float* _fromStart;
    private readonly float* _startQueries;
    private readonly float* _startKeys;
    private readonly float* _endKeys;
    private readonly float* _gradPassing;

    // [chunk, wide].
    private readonly float* _missing;
    private readonly float* _added;
    private readonly float* _given;
    private readonly float* _gradAdded;
    private readonly float* _passing;

    // [chunk, chunk], [wide, chunk], [chunk], [deep].
    private readonly float* _system;
    private readonly float* _columns;
    private readonly float* _betas;
    private readonly float* _gradBetas;
    private readonly float* _last;
    private long _batch;
    private long _head;

    /// <summary>Reserves the buffers.</summary>
    /// <param name="memory">The tensors.</param>
    internal DeltaRuleLane(DeltaRuleMemory memory)
    {
        _memory = memory;
        var problem = memory.Problem;
        (_heads, _chunks) = (problem.Heads, problem.Chunks);
        (_keyWidth, _valueWidth) = ((nint)problem.KeyWidth, (nint)problem.ValueWidth);
        (_deep, _wide) = (Whole(_keyWidth), Whole(_valueWidth));
        nint keys = Chunk * _deep, values = Chunk * _wide, matrix = _deep * _wide;
        Reserve((3 * matrix) + (6 * keys) + (6 * values) + (Chunk * Chunk) + (2 * Chunk) + _deep);
        _states = Take(matrix);
        _start = Take(matrix);
        _turned = Take(matrix);
        _toEnd = Take(keys);
        _fromStart = Take(keys);
        _startQueries = Take(keys);
        _startKeys = Take(keys);
        _endKeys = Take(keys);
        _gradPassing = Take(keys);
        _missing = Take(values);
        _added = Take(values);
        _given = Take(values);
        _gradAdded = Take(values);
        _passing = Take(values);
        _columns = Take(values);
        _system = Take(Chunk * Chunk);
        _betas = Take(Chunk);
        _gradBetas = Take(Chunk);
        _last = Take(_deep);
        _pairs = new DecayedPairs<TVectors, TVector>(_deep, problem.IsPerChannel);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _pairs.Dispose();
        base.Dispose();
    }

    /// <summary>Begins with a value head.</summary>
    /// <param name="index">Row of the batch x heads + head.</param>
    internal void Begin(long index)
    {
        (_batch, _head) = (index / _heads, index % _heads);
        Copy(Held, _valueWidth, _states, _wide, _keyWidth, _valueWidth);
    }

    /// <summary>Computes what the tokens of the head read, and its matrix.</summary>
    internal void Forward()
    {
        for (long chunk = 0; chunk < _chunks; chunk++)
        {
            var (first, count) = Read(chunk);
            if (_memory.Starts != null)
            {
                Copy(_states, _wide, Mark(chunk), _valueWidth, _keyWidth, _valueWidth);
            }

            var hasStart = chunk > 0 || _memory.HasState;
            Solve(first, count, hasStart, _states);
            Product(new(_pairs.OfQueries, Chunk, 1), _added, _wide, new(_passing, _wide, adds: false), count, _wide, count);
            if (hasStart)
            {
                Product(new(_startQueries, _deep, 1), _states, _wide, new(_passing, _wide, adds: true), count, _wide, _keyWidth);
            }

            for (nint row = 0; row < count; row++)
            {
                _memory.Output.Write((_batch, _head), first + row, _passing + (row * _wide), _valueWidth, 1);
            }

            ScaleRows(_states, _wide, _last, _keyWidth);
            Product(new(_endKeys, 1, _deep), _added, _wide, new(_states, _wide, adds: true), _keyWidth, _wide, count);
        }

        Copy(_states, _wide, Held, _valueWidth, _keyWidth, _valueWidth);
    }

    /// <summary>Computes the gradients.</summary>
    internal void Backward()
    {
        for (var chunk = _chunks - 1; chunk >= 0; chunk--)
        {
            Backward(chunk);
        }

        Copy(_states, _wide, Held, _valueWidth, _keyWidth, _valueWidth);
    }

    // The states are the gradient of the matrix behind the chunk, and become that of the matrix before it.
    private void Backward(long chunk)
    {
        var (first, count) = Read(chunk);
        var (hasStart, gradients) = (chunk > 0 || _memory.HasState, _memory.Gradients!);
        Copy(Mark(chunk), _valueWidth, _start, _wide, _keyWidth, _valueWidth);
        Solve(first, count, hasStart, _start);
        _memory.Output.Read((_batch, _head), (first, count), _valueWidth, _given, _wide);
        Product(new(_pairs.OfQueries, 1, Chunk), _given, _wide, new(_gradAdded, _wide, adds: false), count, _wide, count);
        Product(new(_endKeys, _deep, 1), _states, _wide, new(_gradAdded, _wide, adds: true), count, _wide, _keyWidth);
        for (var row = count - 2; row >= 0; row--)
        {
            var below = row + 1;
            Product(new(_system + (below * Chunk) + row, 1, Chunk), _gradAdded + (below * _wide), _wide, new(_gradAdded + (row * _wide), _wide, adds: true), 1, _wide, count - below);
        }

        // Now it is the gradient of β X.
        Transpose(_added, _wide, _columns, Chunk, count, _wide);
        Product(new(_given, _wide, 1), _columns, Chunk, new(_pairs.GradOfQueries, Chunk, adds: false), count, Chunk, _valueWidth);
        Product(new(_gradAdded, _wide, 1), _columns, Chunk, new(_pairs.GradOfKeys, Chunk, adds: false), count, Chunk, _valueWidth);
        for (nint row = 0; row < count; row++)
        {
            // A has the sign of what is taken away; only what is below its diagonal counts.
            var at = row * Chunk;
            Clear(_pairs.GradOfKeys + at + row, Chunk - row);
            Clear(_pairs.GradOfQueries + at + row + 1, Chunk - row - 1);
            _gradBetas[row] = Dot(_gradAdded + (row * _wide), _missing + (row * _wide), _wide) - Dot(_pairs.GradOfKeys + at, _pairs.OfKeys + at, Chunk);
            VectorFunctions.Scale<TVectors, TVector>(_pairs.GradOfKeys + at, Chunk, -_betas[row]);
            VectorFunctions.Scale<TVectors, TVector>(_gradAdded + (row * _wide), _wide, _betas[row]);
        }

        _pairs.Backward(count);
        OfEnd(count);
        if (hasStart)
        {
            OfStart(count);
        }

        Write(first, count, gradients);
    }

    // By way of the matrix behind the chunk.
    private void OfEnd(nint count)
    {
        Transpose(_states, _wide, _turned, _deep, _keyWidth, _wide);
        Product(new(_added, _wide, 1), _turned, _deep, new(_gradPassing, _deep, adds: false), count, _deep, _valueWidth);
        var last = _pairs.GradSums + ((count - 1) * _deep);
        AddProduct(_gradPassing, _toEnd, _pairs.GradKeys, count * _deep);
        Multiply(_gradPassing, _endKeys, _gradPassing, count * _deep);
        Subtract(_gradPassing, _pairs.GradSums, count * _deep);
        for (nint row = 0; row < count; row++)
        {
            Add(_gradPassing + (row * _deep), last, _deep);
        }
    }

    // By way of the matrix before the chunk.
    private void OfStart(nint count)
    {
        Transpose(_start, _wide, _turned, _deep, _keyWidth, _wide);
        Product(new(_given, _wide, 1), _turned, _deep, new(_gradPassing, _deep, adds: false), count, _deep, _valueWidth);
        AddProduct(_gradPassing, _fromStart, _pairs.GradQueries, count * _deep);
        AddProduct(_gradPassing, _startQueries, _pairs.GradSums, count * _deep);

        // That of the keys has the other sign.
        Product(new(_gradAdded, _wide, 1), _turned, _deep, new(_gradPassing, _deep, adds: false), count, _deep, _valueWidth);
        VectorFunctions.Scale<TVectors, TVector>(_gradPassing, count * _deep, -1);
        AddProduct(_gradPassing, _fromStart, _pairs.GradKeys, count * _deep);
        AddProduct(_gradPassing, _startKeys, _pairs.GradSums, count * _deep);
        var last = _pairs.GradSums + ((count - 1) * _deep);
        for (nint c = 0; c < _keyWidth; c++)
        {
            last[c] += _last[c] * Dot(_states + (c * _wide), _start + (c * _wide), _wide);
        }

        ScaleRows(_states, _wide, _last, _keyWidth);
        Product(new(_startQueries, 1, _deep), _given, _wide, new(_states, _wide, adds: true), _keyWidth, _wide, count);
        VectorFunctions.Scale<TVectors, TVector>(_gradAdded, count * _wide, -1);
        Product(new(_startKeys, 1, _deep), _gradAdded, _wide, new(_states, _wide, adds: true), _keyWidth, _wide, count);
        VectorFunctions.Scale<TVectors, TVector>(_gradAdded, count * _wide, -1);
    }

    private void Write(long first, nint count, DeltaRuleTargets gradients)
    {
        var sums = _pairs.GradSums;
        for (var row = count - 1; row >= 0; row--)
        {
            var (place, token) = ((_batch, _head), first + row);
            var keys = row * _deep;

            // A sum of logarithms has those of all earlier tokens.
            if (row < count - 1)
            {
                Add(sums + keys + _deep, sums + keys, _deep);
            }

            gradients.Query.Write(place, token, _pairs.GradQueries + keys, _keyWidth, 1);
            gradients.Key.Write(place, token, _pairs.GradKeys + keys, _keyWidth, 1);
            gradients.Value.Write(place, token, _gradAdded + (row * _wide), _valueWidth, 1);
            gradients.Beta[(((_batch * _memory.Problem.Tokens) + token) * _heads) + _head] = _gradBetas[row];
            if (_pairs.IsPerChannel)
            {
                gradients.Decay.Write(place, token, sums + keys, _keyWidth, 1);
                continue;
            }

            var sum = 0f;
            for (nint c = 0; c < _keyWidth; c++)
            {
                sum += sums[keys + c];
            }

            _gradPassing[0] = sum;
            gradients.Decay.Write(place, token, _gradPassing, 1, 1);
        }
    }

    // Reads a chunk: queries, keys and the sums of the decays' logarithms, what is left of them at the start and the end, and betas.
    private (long First, nint Count) Read(long chunk)
    {
        var (first, tokens, problem) = (chunk * Chunk, _memory.Problem.Tokens, _memory.Problem);
        var count = (nint)Math.Min(Chunk, tokens - first);
        var ofKeys = (_batch, _head / (_heads / problem.KeyHeads));
        _memory.Query.Read(ofKeys, (first, count), _keyWidth, _pairs.Queries, _deep);
        _memory.Key.Read(ofKeys, (first, count), _keyWidth, _pairs.Keys, _deep);
        ReadDecays(first, count);
        for (nint row = 0; row < count; row++)
        {
            _betas[row] = _memory.Beta[(((_batch * tokens) + first + row) * _heads) + _head];
        }

        _pairs.Compute(count);
        Multiply(_pairs.Queries, _fromStart, _startQueries, count * _deep);
        Multiply(_pairs.Keys, _fromStart, _startKeys, count * _deep);
        Multiply(_pairs.Keys, _toEnd, _endKeys, count * _deep);
        return (first, count);
    }

    private void ReadDecays(long first, nint count)
    {
        var sums = _pairs.Sums;
        var restart = 0;
        _memory.Decay.Read((_batch, _head), (first, count), _pairs.IsPerChannel ? _keyWidth : 1, sums, _deep);
        for (nint row = 0; row < count; row++)
        {
            var own = sums + (row * _deep);
            restart = _memory.Continues != null && _memory.Continues[(_batch * _memory.Problem.Tokens) + first + row] == 0 ? (int)row + 1 : restart;
            _pairs.Restarts[row] = restart;
            if (!_pairs.IsPerChannel)
            {
                new Span<float>(own, (int)_deep).Fill(own[0]);
            }

            if (row > 0)
            {
                Add(own - _deep, own, _deep);
            }

            Exponentials(own, null, _fromStart + (row * _deep), restart == 0);
        }

        var end = sums + ((count - 1) * _deep);
        Copy(_fromStart + ((count - 1) * _deep), _deep, _last, _deep, 1, _deep);
        for (nint row = 0; row < count; row++)
        {
            Exponentials(end, sums + (row * _deep), _toEnd + (row * _deep), _pairs.Restarts[row] == restart);
        }
    }

    // e^(from - less), or zeros.
    private void Exponentials(float* from, float* less, float* to, bool isKept)
    {
        if (!isKept)
        {
            Clear(to, _deep);
            return;
        }

        for (nint c = 0; c < _deep; c += TVectors.Width)
        {
            var power = TVectors.Load(from + c);
            TVectors.Store(to + c, VectorFunctions.Exponential<TVectors, TVector>(less == null ? power : TVectors.Subtract(power, TVectors.Load(less + c))));
        }
    }

    // What is missing, X, and what is added, V: forward substitution in the triangular system, row by row.
    private void Solve(long first, nint count, bool hasStart, float* start)
    {
        _memory.Value.Read((_batch, _head), (first, count), _valueWidth, _missing, _wide);
        if (hasStart)
        {
            Product(new(_startKeys, _deep, 1), start, _wide, new(_passing, _wide, adds: false), count, _wide, _keyWidth);
            Subtract(_passing, _missing, count * _wide);
        }

        Copy(_missing, _wide, _added, _wide, count, _wide);
        ScaleRows(_added, _wide, _betas, count);
        Copy(_pairs.OfKeys, Chunk, _system, Chunk, count, Chunk);
        for (nint row = 0; row < count; row++)
        {
            VectorFunctions.Scale<TVectors, TVector>(_system + (row * Chunk), Chunk, -_betas[row]);
            if (row > 0)
            {
                Product(new(_system + (row * Chunk), Chunk, 1), _added, _wide, new(_added + (row * _wide), _wide, adds: true), 1, _wide, row);
            }
        }
    }

    private float* Held => _memory.States + (((_batch * _heads) + _head) * _keyWidth * _valueWidth);

    private float* Mark(long chunk) => _memory.Starts + (((((_batch * _heads) + _head) * _chunks) + chunk) * _keyWidth * _valueWidth);
}
