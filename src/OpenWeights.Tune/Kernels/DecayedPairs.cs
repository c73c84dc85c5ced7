namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Products of the queries and keys of a chunk with the keys of earlier tokens of the same document, times the decay between the two, which is one
/// number for all channels or one for each. None of the exponents is above 0.
/// </summary>
internal sealed unsafe class DecayedPairs<TVectors, TVector> : ChunkLane<TVectors, TVector>
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    private const nint Chunk = DeltaRuleKernel.Chunk;

    // Tokens of a block.
    private const nint Block = 16;

    private readonly nint _deep;
    private readonly float* _columns;
    private readonly float* _toBorder;
    private readonly float* _decaysToBorder;
    private readonly float* _passing;
    private readonly float* _fromBorder;
    private readonly float* _keysOfBlock;
    private readonly float* _queriesOfBlock;
    private readonly float* _decays;

    /// <summary>Reserves the buffers.</summary>
    /// <param name="deep">Width of a key, in whole vectors.</param>
    /// <param name="perChannel">Whether each channel decays on its own.</param>
    internal DecayedPairs(nint deep, bool perChannel)
    {
        (_deep, IsPerChannel) = (deep, perChannel);
        var keys = Chunk * deep;
        Reserve((10 * keys) + (3 * Block * deep) + (5 * Chunk * Chunk) + Chunk);
        Queries = Take(keys);
        Keys = Take(keys);
        Sums = Take(keys);
        GradQueries = Take(keys);
        GradKeys = Take(keys);
        GradSums = Take(keys);
        _columns = Take(keys);
        _toBorder = Take(keys);
        _decaysToBorder = Take(keys);
        _passing = Take(keys);
        _fromBorder = Take(Block * deep);
        _keysOfBlock = Take(Block * deep);
        _queriesOfBlock = Take(Block * deep);
        _decays = Take(Chunk * Chunk);
        OfKeys = Take(Chunk * Chunk);
        OfQueries = Take(Chunk * Chunk);
        GradOfKeys = Take(Chunk * Chunk);
        GradOfQueries = Take(Chunk * Chunk);
        Restarts = (int*)Take(Chunk);
    }

    /// <summary>Whether each channel decays on its own.</summary>
    internal bool IsPerChannel { get; }

    /// <summary>The queries, [chunk, width].</summary>
    internal float* Queries { get; }

    /// <summary>The keys, [chunk, width].</summary>
    internal float* Keys { get; }

    /// <summary>The sums of the decays' logarithms up to each token, [chunk, width].</summary>
    internal float* Sums { get; }

    /// <summary>Where each token's document begins in the chunk, plus one; 0 where it begins before it.</summary>
    internal int* Restarts { get; }

    /// <summary>The products of keys, [chunk, chunk], 0 for a token with itself.</summary>
    internal float* OfKeys { get; }

    /// <summary>The products of queries, [chunk, chunk].</summary>
    internal float* OfQueries { get; }

    /// <summary>Gradient of <see cref="OfKeys"/>, which <see cref="Backward"/> overwrites; 0 where the products are.</summary>
    internal float* GradOfKeys { get; }

    /// <summary>Gradient of <see cref="OfQueries"/>, which <see cref="Backward"/> overwrites.</summary>
    internal float* GradOfQueries { get; }

    /// <summary>Gradient of the queries.</summary>
    internal float* GradQueries { get; }

    /// <summary>Gradient of the keys.</summary>
    internal float* GradKeys { get; }

    /// <summary>Gradient of the sums; with one decay for all channels, the sum over the channels is that of the number.</summary>
    internal float* GradSums { get; }

    /// <summary>Computes the products.</summary>
    /// <param name="count">Number of tokens.</param>
    internal void Compute(nint count)
    {
        Clear(OfKeys, count * Chunk);
        Clear(OfQueries, count * Chunk);
        if (IsPerChannel)
        {
            ComputeEach(count);
            return;
        }

        Transpose(Keys, _deep, _columns, Chunk, count, _deep);
        Product(new(Keys, _deep, 1), _columns, Chunk, new(OfKeys, Chunk, adds: false), count, Chunk, _deep);
        Product(new(Queries, _deep, 1), _columns, Chunk, new(OfQueries, Chunk, adds: false), count, Chunk, _deep);
        var sums = stackalloc float[(int)Chunk];
        new Span<float>(sums, (int)Chunk).Clear();
        for (nint row = 0; row < count; row++)
        {
            sums[row] = Sums[row * _deep];
            var (at, own, first) = (row * Chunk, TVectors.Create(sums[row]), First(row));
            Clear(_decays + at, Chunk);
            for (nint j = first / TVectors.Width * TVectors.Width; j <= row; j += TVectors.Width)
            {
                TVectors.Store(_decays + at + j, VectorFunctions.Exponential<TVectors, TVector>(TVectors.Smaller(TVectors.Zero, TVectors.Subtract(own, TVectors.Load(sums + j)))));
            }

            Clear(_decays + at, first);
            Clear(_decays + at + row + 1, Chunk - row - 1);
            Multiply(OfQueries + at, _decays + at, OfQueries + at, Chunk);
            _decays[at + row] = 0;
            Multiply(OfKeys + at, _decays + at, OfKeys + at, Chunk);
            _decays[at + row] = 1;
        }
    }

    /// <summary>Computes the gradients of queries, keys and sums.</summary>
    /// <param name="count">Number of tokens.</param>
    internal void Backward(nint count)
    {
        Clear(GradQueries, Chunk * _deep);
        Clear(GradKeys, Chunk * _deep);
        Clear(GradSums, Chunk * _deep);
        if (IsPerChannel)
        {
            BackwardEach(count);
            return;
        }

        for (nint row = 0; row < count; row++)
        {
            var (at, sum) = (row * Chunk, TVectors.Zero);
            for (nint j = 0; j <= row; j += TVectors.Width)
            {
                var (ofKeys, ofQueries) = (TVectors.Load(GradOfKeys + at + j), TVectors.Load(GradOfQueries + at + j));
                var ofSum = TVectors.MultiplyAdd(ofKeys, TVectors.Load(OfKeys + at + j), TVectors.Multiply(ofQueries, TVectors.Load(OfQueries + at + j)));
                TVectors.Store(OfKeys + at + j, ofSum);
                sum = TVectors.Add(sum, ofSum);
                var decay = TVectors.Load(_decays + at + j);
                TVectors.Store(GradOfKeys + at + j, TVectors.Multiply(ofKeys, decay));
                TVectors.Store(GradOfQueries + at + j, TVectors.Multiply(ofQueries, decay));
            }

            GradSums[row * _deep] += TVectors.Sum(sum);
            for (nint j = 0; j <= row; j++)
            {
                GradSums[j * _deep] -= OfKeys[at + j];
            }
        }

        Product(new(GradOfQueries, Chunk, 1), Keys, _deep, new(GradQueries, _deep, adds: true), count, _deep, count);
        Product(new(GradOfQueries, 1, Chunk), Queries, _deep, new(GradKeys, _deep, adds: true), count, _deep, count);
        Product(new(GradOfKeys, Chunk, 1), Keys, _deep, new(GradKeys, _deep, adds: true), count, _deep, count);
        Product(new(GradOfKeys, 1, Chunk), Keys, _deep, new(GradKeys, _deep, adds: true), count, _deep, count);
    }

    private nint First(nint row) => Math.Max(0, Restarts[row] - 1);

    // A token's products with those of its own block of tokens are computed one by one, those with earlier blocks at once: with the sums at the
    // border before the block, the decay is the product of one from the border to the token and one from the other token to the border.
    private void ComputeEach(nint count)
    {
        for (nint start = 0; start < count; start += Block)
        {
            var rows = Math.Min(Block, count - start);
            if (start > 0)
            {
                MoveBorder(start);
                Transpose(_toBorder, _deep, _columns, Chunk, start, _deep);
                Product(new(_keysOfBlock, _deep, 1), _columns, Chunk, new(OfKeys + (start * Chunk), Chunk, adds: false), rows, Whole(start), _deep);
                Product(new(_queriesOfBlock, _deep, 1), _columns, Chunk, new(OfQueries + (start * Chunk), Chunk, adds: false), rows, Whole(start), _deep);
            }

            for (var i = start; i < start + rows; i++)
            {
                ComputeWithin(i, start);
                Clear(OfKeys + (i * Chunk), First(i));
                Clear(OfQueries + (i * Chunk), First(i));
            }
        }
    }

    private void ComputeWithin(nint i, nint start)
    {
        float* query = Queries + (i * _deep), key = Keys + (i * _deep), sums = Sums + (i * _deep);
        for (var j = Math.Max(start, First(i)); j <= i; j++)
        {
            float* other = Keys + (j * _deep), before = Sums + (j * _deep);
            var (ofKeys, ofQueries) = (TVectors.Zero, TVectors.Zero);
            for (nint c = 0; c < _deep; c += TVectors.Width)
            {
                var decayed = TVectors.Multiply(Decay(sums + c, before + c), TVectors.Load(other + c));
                ofKeys = TVectors.MultiplyAdd(TVectors.Load(key + c), decayed, ofKeys);
                ofQueries = TVectors.MultiplyAdd(TVectors.Load(query + c), decayed, ofQueries);
            }

            OfKeys[(i * Chunk) + j] = i == j ? 0 : TVectors.Sum(ofKeys);
            OfQueries[(i * Chunk) + j] = TVectors.Sum(ofQueries);
        }
    }

    private void BackwardEach(nint count)
    {
        for (nint start = 0; start < count; start += Block)
        {
            var rows = Math.Min(Block, count - start);
            if (start > 0)
            {
                MoveBorder(start);
                BackwardBefore(start, rows);
            }

            for (var i = start; i < start + rows; i++)
            {
                BackwardWithin(i, start);
            }
        }
    }

    // The gradients of a block's products with earlier blocks: those of the sum at the border cancel.
    private void BackwardBefore(nint start, nint rows)
    {
        float* ofKeys = GradOfKeys + (start * Chunk), ofQueries = GradOfQueries + (start * Chunk);
        for (nint row = 0; row < rows; row++)
        {
            var hidden = Math.Min(start, First(start + row));
            Clear(ofKeys + (row * Chunk), hidden);
            Clear(ofQueries + (row * Chunk), hidden);
        }

        nint own = start * _deep, numbers = rows * _deep;
        Product(new(ofKeys, Chunk, 1), _toBorder, _deep, new(_passing, _deep, adds: false), rows, _deep, start);
        AddProduct(_passing, _fromBorder, GradKeys + own, numbers);
        AddProduct(_passing, _keysOfBlock, GradSums + own, numbers);
        Product(new(ofQueries, Chunk, 1), _toBorder, _deep, new(_passing, _deep, adds: false), rows, _deep, start);
        AddProduct(_passing, _fromBorder, GradQueries + own, numbers);
        AddProduct(_passing, _queriesOfBlock, GradSums + own, numbers);
        Product(new(ofKeys, 1, Chunk), _keysOfBlock, _deep, new(_passing, _deep, adds: false), start, _deep, rows);
        Product(new(ofQueries, 1, Chunk), _queriesOfBlock, _deep, new(_passing, _deep, adds: true), start, _deep, rows);
        AddProduct(_passing, _decaysToBorder, GradKeys, start * _deep);
        Multiply(_passing, _toBorder, _passing, start * _deep);
        Subtract(_passing, GradSums, start * _deep);
    }

    private void BackwardWithin(nint i, nint start)
    {
        for (var j = Math.Max(start, First(i)); j <= i; j++)
        {
            var (ofKeys, ofQueries) = (TVectors.Create(GradOfKeys[(i * Chunk) + j]), TVectors.Create(GradOfQueries[(i * Chunk) + j]));
            for (nint c = 0; c < _deep; c += TVectors.Width)
            {
                nint own = (i * _deep) + c, other = (j * _deep) + c;
                var (decay, key) = (Decay(Sums + own, Sums + other), TVectors.Load(Keys + other));
                var decayed = TVectors.Multiply(decay, key);
                TVectors.Store(GradQueries + own, TVectors.MultiplyAdd(ofQueries, decayed, TVectors.Load(GradQueries + own)));
                TVectors.Store(GradKeys + own, TVectors.MultiplyAdd(ofKeys, decayed, TVectors.Load(GradKeys + own)));
                var later = TVectors.MultiplyAdd(ofKeys, TVectors.Load(Keys + own), TVectors.Multiply(ofQueries, TVectors.Load(Queries + own)));
                var ofOther = TVectors.Multiply(later, decay);
                TVectors.Store(GradKeys + other, TVectors.Add(ofOther, TVectors.Load(GradKeys + other)));
                var ofSum = TVectors.Multiply(ofOther, key);
                TVectors.Store(GradSums + own, TVectors.Add(TVectors.Load(GradSums + own), ofSum));
                TVectors.Store(GradSums + other, TVectors.Subtract(TVectors.Load(GradSums + other), ofSum));
            }
        }
    }

    // The keys of all earlier tokens decayed to the border before a block, and the block's keys and queries decayed from it.
    private void MoveBorder(nint start)
    {
        var border = Sums + ((start - 1) * _deep);
        for (nint row = 0; row < Block && row < Chunk - start; row++)
        {
            var at = (start + row) * _deep;
            for (nint c = 0; c < _deep; c += TVectors.Width)
            {
                TVectors.Store(_fromBorder + (row * _deep) + c, Decay(Sums + at + c, border + c));
            }
        }

        Multiply(Keys + (start * _deep), _fromBorder, _keysOfBlock, Block * _deep);
        Multiply(Queries + (start * _deep), _fromBorder, _queriesOfBlock, Block * _deep);
        for (nint row = 0; row < start; row++)
        {
            var at = row * _deep;
            for (nint c = 0; c < _deep; c += TVectors.Width)
            {
                TVectors.Store(_decaysToBorder + at + c, Decay(border + c, Sums + at + c));
            }
        }

        Multiply(Keys, _decaysToBorder, _toBorder, start * _deep);
    }

    // e^(later - earlier).
    private static TVector Decay(float* later, float* earlier) =>
        VectorFunctions.Exponential<TVectors, TVector>(TVectors.Smaller(TVectors.Zero, TVectors.Subtract(TVectors.Load(later), TVectors.Load(earlier))));
}
