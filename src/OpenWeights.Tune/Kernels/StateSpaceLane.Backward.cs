namespace OpenWeights.Tune.Kernels;

/// <content>The gradients.</content>
internal sealed unsafe partial class StateSpaceLane<TVectors, TVector>
{
    /// <summary>Computes the gradients.</summary>
    internal void Backward()
    {
        var gradients = _memory.Gradients!;
        ReadStates();
        for (var chunk = _memory.Chunks - 1; chunk >= 0; chunk--)
        {
            var span = ReadGroup(chunk);
            Transpose(_queries, _deep, _queryColumns, Chunk, span.Count, _deep);
            Clear(_gradProducts, Chunk * Chunk);
            Clear(_gradKeyColumns, 2 * Chunk * _deep);
            for (var head = _heads.First; head < _heads.End; head++)
            {
                Backward(span, head, chunk > 0 || _memory.HasState, chunk);
            }

            WriteGroup(span, gradients);
        }

        WriteStates();
    }

    private void Backward(in Part span, long head, bool hasStart, long chunk)
    {
        var states = States(head);
        var (count, gradients) = (span.Count, _memory.Gradients!);
        Begin(span, head);
        Weigh(span);
        _memory.X.Read((_batch, head), (span.First, count), _width, _x, _wide);
        _memory.Output.Read((_batch, head), (span.First, count), _width, _given, _wide);
        Transpose(_x, _wide, _columns, Chunk, count, _wide);
        Product(new(_given, _wide, 1), _columns, Chunk, new(_gradWeights, Chunk, adds: false), count, Chunk, _width);
        OfWeights(count);

        // Gradient of x: by the outputs of the chunk, and by the states behind it.
        Product(new(_weights, 1, Chunk), _given, _wide, new(_result, _wide, adds: false), count, _wide, count);
        Product(new(_keys, _deep, 1), states, _wide, new(_passing, _wide, adds: false), count, _wide, _size);
        Product(new(states, _wide, 1), _columns, Chunk, new(_stateColumns, Chunk, adds: false), _size, Chunk, _width);
        OfEnd(span);
        AddScaled(_passing, _result, ByStep(_toEnd, count), count);
        AddSkipped(head, _given, count);
        gradients.Skip[(_batch * _memory.Sizes.Heads) + head] += Dot(_given, _x, count * _wide);
        for (nint row = 0; row < count; row++)
        {
            gradients.X.Write((_batch, head), span.First + row, _result + (row * _wide), _width, 1);
        }

        if (hasStart)
        {
            OfStart(span, head, chunk, states);
        }

        WriteSteps(span, head, gradients);
    }

    // By the states at the start of the chunk: the gradient of C, of the decays from the start, and of those states.
    private void OfStart(in Part span, long head, long chunk, float* states)
    {
        Copy(_memory.Starts + Mark(head, chunk), _width, _start, _wide, _size, _width);
        Transpose(_given, _wide, _columns, Chunk, span.Count, _wide);
        Product(new(_start, _wide, 1), _columns, Chunk, new(_stateColumns, Chunk, adds: false), _size, Chunk, _width);
        var dots = stackalloc float[(int)Chunk];
        AddColumns(_queryColumns, _gradQueryColumns, _fromStart, dots);
        for (nint i = 0; i < span.Count; i++)
        {
            _ofSums[i] += _fromStart[i] * dots[i];
        }

        var end = End(span);
        if (end != 0)
        {
            _ofSums[span.Count - 1] += end * Dot(states, _start, _size * _wide);
        }

        VectorFunctions.Scale<TVectors, TVector>(states, _size * _wide, end);
        ScaleRows(_given, _wide, _fromStart, span.Count);
        Product(new(_queryColumns, Chunk, 1), _given, _wide, new(states, _wide, adds: true), _size, _wide, span.Count);
    }

    // By the states at the end of the chunk: the gradient of B, of the decays to the end, and of the time steps.
    private void OfEnd(in Part span)
    {
        var dots = stackalloc float[(int)Chunk];
        var last = 0f;
        AddColumns(_keyColumns, _gradKeyColumns, ByStep(_toEnd, span.Count), dots);
        for (nint j = 0; j < span.Count; j++)
        {
            _ofSteps[j] += _toEnd[j] * dots[j];
            var ofSum = _toEnd[j] * _steps[j] * dots[j];
            _ofSums[j] -= ofSum;
            last += ofSum;
        }

        _ofSums[span.Count - 1] += last;
    }

    // Gradients of the products and of the decays between tokens, from that of the weights; the weights are what x is multiplied by.
    private void OfWeights(nint count)
    {
        for (nint i = 0; i < count; i++)
        {
            var sum = TVectors.Zero;
            var row = i * Chunk;
            for (nint j = 0; j <= i; j += TVectors.Width)
            {
                var at = row + j;
                var (decay, given, step) = (TVectors.Load(_decays + at), TVectors.Load(_gradWeights + at), TVectors.Load(_steps + j));
                var ofProduct = TVectors.Multiply(given, decay);
                var ofWeight = TVectors.Multiply(given, TVectors.Load(_weights + at));
                TVectors.Store(_gradProducts + at, TVectors.MultiplyAdd(ofProduct, step, TVectors.Load(_gradProducts + at)));
                TVectors.Store(_ofSteps + j, TVectors.MultiplyAdd(ofProduct, TVectors.Load(_products + at), TVectors.Load(_ofSteps + j)));
                TVectors.Store(_ofSums + j, TVectors.Subtract(TVectors.Load(_ofSums + j), ofWeight));
                sum = TVectors.Add(sum, ofWeight);
            }

            _ofSums[i] += TVectors.Sum(sum);
        }
    }

    // Each sum of logarithms is one of all later tokens' too.
    private void WriteSteps(in Part span, long head, StateSpaceTargets gradients)
    {
        var (rate, heads, later, ofRate) = (_memory.Rates[head], _memory.Sizes.Heads, 0f, 0f);
        for (var i = span.Count - 1; i >= 0; i--)
        {
            later += _ofSums[i];
            ofRate += later * _steps[i];
            gradients.Step[(((_batch * _memory.Tokens) + span.First + i) * heads) + head] = _ofSteps[i] + (later * rate);
        }

        gradients.Rates[(_batch * heads) + head] += ofRate;
    }

    // The gradients of B and C: what the states gave, and the products.
    private void WriteGroup(in Part span, StateSpaceTargets gradients)
    {
        var to = gradients.OfGroups + ((((((_part * _memory.Problem.Batch) + _batch) * _memory.Sizes.Groups) + _group) * _memory.Tokens) + span.First) * _size;
        Back(_gradKeyColumns, span.Count);
        Product(new(_gradProducts, 1, Chunk), _queries, _deep, new(_stateColumns, _deep, adds: true), span.Count, _deep, span.Count);
        Copy(_stateColumns, _deep, to, _size, span.Count, _size);
        Back(_gradQueryColumns, span.Count);
        Product(new(_gradProducts, Chunk, 1), _keys, _deep, new(_stateColumns, _deep, adds: true), span.Count, _deep, span.Count);
        Copy(_stateColumns, _deep, to + gradients.Numbers, _size, span.Count, _size);
    }

    // [deep, chunk] to [chunk, deep].
    private void Back(float* columns, nint count)
    {
        for (nint row = 0; row < count; row++)
        {
            for (nint n = 0; n < _deep; n++)
            {
                _stateColumns[(row * _deep) + n] = columns[(n * Chunk) + row];
            }
        }
    }

    // gradients += what the states give times a factor of each token, and the sums of that times the columns.
    private void AddColumns(float* columns, float* gradients, float* factors, float* sums)
    {
        for (nint j = 0; j < Chunk; j += TVectors.Width)
        {
            var (sum, factor) = (TVectors.Zero, TVectors.Load(factors + j));
            for (nint n = 0; n < _size; n++)
            {
                var at = (n * Chunk) + j;
                var given = TVectors.Load(_stateColumns + at);
                sum = TVectors.MultiplyAdd(given, TVectors.Load(columns + at), sum);
                TVectors.Store(gradients + at, TVectors.MultiplyAdd(given, factor, TVectors.Load(gradients + at)));
            }

            TVectors.Store(sums + j, sum);
        }
    }
}
