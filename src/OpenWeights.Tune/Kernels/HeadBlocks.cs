using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// Processes one chunk of <see cref="HeadKernel"/>. Blocks are assigned to threads statically, so that sums are reproducible.
/// </summary>
internal sealed unsafe class HeadBlocks<TVectors, TVector>
    where TVectors : struct, IVectors<TVector>
    where TVector : struct
{
    // Rows of the weight per block: its scores, and a tile's columns, stay in a core's own caches.
    private const int BlockRows = 16 * TileProduct.TileRows;

    private readonly HeadChunk _chunk;
    private readonly nint _rows;
    private readonly nint _padded;
    private readonly nint _stride;
    private readonly nint _features;
    private readonly nint _vocabulary;
    private readonly nint _strip;
    private readonly int _blocks;
    private readonly int _workers;
    private readonly HeadStates _weight;
    private readonly float* _exactWeight;
    private readonly float* _gradWeight;
    private readonly long* _targets;

    // [vocabulary, stride]: scores of the rows, then their exponentials, then their gradients.
    private readonly float* _scores;

    // Of the same shape: derivatives of the soft cap; null without a soft cap, or if no gradient is needed.
    private readonly float* _slopes;

    // The rows, scaled by the multiplier, as right factors: [strips of rows, hidden, strip] and [strips of hidden, padded rows, strip].
    private readonly float* _rowStrips;
    private readonly float* _featureStrips;

    // [blocks, padded rows]: each block's maximum score of a row, later the factor of its exponentials, and their sum.
    private readonly float* _factors;
    private readonly float* _sums;

    // [padded rows]: scores of the targets. [workers, padded rows, hidden]: a thread's part of the rows' gradient. [workers, block's rows +
    // 1, hidden].
    private readonly float* _wanted;
    private readonly float* _gradients;
    private readonly float* _weights;

    /// <param name="chunk">The rows and outputs. Buffers are allocated in the caller's dispose scope.</param>
    internal HeadBlocks(in HeadChunk chunk)
    {
        _chunk = chunk;
        (_rows, _features, _vocabulary) = ((nint)chunk.Hidden.size(0), (nint)chunk.Hidden.size(1), (nint)chunk.Weight.size(0));
        (_padded, _strip) = ((_rows + TVectors.Width - 1) / TVectors.Width * TVectors.Width, TileProduct.StripColumns<TVectors, TVector>());

        // Rows at a distance of a power of two would evict each other from the L1 cache.
        _stride = _padded + TVectors.Width;
        _blocks = (int)((_vocabulary + BlockRows - 1) / BlockRows);
        _workers = Math.Min(get_num_threads(), _blocks);
        _weight = HeadStates.OfRows(chunk.Weight);
        _exactWeight = chunk.Weight.dtype == ScalarType.Float32 ? (float*)CpuKernel.Pointer(chunk.Weight) : null;
        _gradWeight = chunk.GradWeight is null ? null : (float*)CpuKernel.Pointer(chunk.GradWeight);
        _targets = (long*)CpuKernel.Pointer(chunk.Targets);
        _scores = Room(_vocabulary * _stride);
        _slopes = chunk.SoftCap is null || !WantsGradients ? null : Room(_vocabulary * _stride);
        _rowStrips = Room((_padded + _strip) * _features);
        _featureStrips = Room(_padded * (_features + _strip));
        _factors = Room(_blocks * _padded);
        _sums = Room(_blocks * _padded);
        _wanted = Room(_padded);
        _gradients = Room(chunk.GradHidden is null ? 0 : _workers * _padded * _features);
        _weights = Room(_workers * WeightRoom);
    }

    private bool WantsGradients => _chunk.GradHidden is not null || _chunk.GradWeight is not null;

    private nint WeightRoom => (BlockRows + 1) * (_features + _strip);

    /// <summary>Runs all stages and returns the summed cross entropy.</summary>
    internal double Run()
    {
        LayOut();
        EachBlock(Score);
        var loss = Combine();
        if (WantsGradients)
        {
            EachBlock(AddGradients);
            WriteHiddenGradient();
        }

        GC.KeepAlive(_chunk);
        return loss;
    }

    private float* Room(nint count) => (float*)CpuKernel.Pointer(empty([Math.Max(1, count)], float32, _chunk.Hidden.device));

    private void EachBlock(Action<int, int> work) => CpuKernel.RunParts(_workers, worker =>
    {
        for (var block = worker; block < _blocks; block += _workers)
        {
            work(worker, block);
        }
    });

    // The rows transposed, for the scores, and row-major, for the gradient of the weight.
    private void LayOut()
    {
        var hidden = HeadStates.OfRows(_chunk.Hidden);
        new Span<float>(_weights, (int)_features).Clear();
        for (nint row = 0; row < _padded; row++)
        {
            hidden.Read((0, 0), (row, row < _rows ? 1 : 0), _features, _weights, _features, _chunk.Multiplier);
            if (row == _rows)
            {
                new Span<float>(_weights, (int)_features).Clear();
            }

            var column = _rowStrips + (row / _strip * _strip * _features) + (row % _strip);
            for (nint i = 0; i < _features; i++)
            {
                column[i * _strip] = _weights[i];
            }

            if (_gradWeight != null)
            {
                ToStrips(_weights, _featureStrips, row, _padded);
            }
        }
    }

    // Packs a row of features into [strips, rows, strip].
    private void ToStrips(float* features, float* strips, nint row, nint rows)
    {
        for (nint first = 0; first < _features; first += _strip)
        {
            var count = (int)Math.Min(_strip, _features - first);
            new ReadOnlySpan<float>(features + first, count).CopyTo(new Span<float>(strips + (first * rows) + (row * _strip), count));
        }
    }

    // Scores of a block, then their exponentials with each row's maximum and sum, while they are in the cache.
    private void Score(int worker, int block)
    {
        var (first, count) = Rows(block);
        var weight = _exactWeight + (first * _features);
        if (_exactWeight == null)
        {
            weight = _weights + (worker * WeightRoom);
            _weight.Read((0, 0), (first, count), _features, weight, _features);
        }

        var scores = _scores + (first * _stride);
        for (nint row = 0; row < _padded; row += _strip)
        {
            TileProduct.Run<TVectors, TVector>(
                new TileProduct.Factor(weight, _features, 1), _rowStrips + (row * _features), _strip, new TileProduct.Target(scores + row, _stride, adds: false), count, Math.Min(_strip, _padded - row), _features);
        }

        for (nint i = 0; _chunk.SoftCap is not null && i < count; i++)
        {
            var slopes = _slopes == null ? null : _slopes + ((first + i) * _stride);
            VectorFunctions.Limit<TVectors, TVector>(scores + (i * _stride), _padded, _chunk.SoftCap.Value, slopes);
        }

        for (nint row = 0; row < _rows; row++)
        {
            if (_targets[row] >= first && _targets[row] < first + count)
            {
                _wanted[row] = _scores[((nint)_targets[row] * _stride) + row];
            }
        }

        for (nint row = 0; row < _padded; row += TVectors.Width)
        {
            var place = (block * _padded) + row;
            TVectors.Store(_factors + place, Exponentials(scores + row, count, out var sum));
            TVectors.Store(_sums + place, sum);
        }
    }

    // exp(score - maximum) of a vector of rows, in place.
    private TVector Exponentials(float* scores, nint count, out TVector sum)
    {
        var largest = TVectors.Load(scores);
        for (nint i = 1; i < count; i++)
        {
            largest = TVectors.Larger(TVectors.Load(scores + (i * _stride)), largest);
        }

        sum = TVectors.Zero;
        for (nint i = 0; i < count; i++)
        {
            var value = VectorFunctions.Exponential<TVectors, TVector>(TVectors.Subtract(TVectors.Load(scores + (i * _stride)), largest));
            TVectors.Store(scores + (i * _stride), value);
            sum = TVectors.Add(sum, value);
        }

        return largest;
    }

    // Combines the blocks' maxima and sums of each row, computes the factors of the exponentials, and the summed loss.
    private double Combine()
    {
        var losses = new double[_rows];
        CpuKernel.Run(_padded, _blocks * 16, (start, end) =>
        {
            for (var row = (nint)start; row < end; row++)
            {
                var largest = float.NegativeInfinity;
                for (nint place = row; place < _blocks * _padded; place += _padded)
                {
                    largest = MathF.Max(largest, _factors[place]);
                }

                var sum = 0.0;
                for (nint place = row; place < _blocks * _padded; place += _padded)
                {
                    sum += _sums[place] * Math.Exp(_factors[place] - largest);
                }

                var normalizer = largest + Math.Log(sum);
                for (nint place = row; place < _blocks * _padded; place += _padded)
                {
                    _factors[place] = row < _rows ? (float)Math.Exp(_factors[place] - normalizer) : 0;
                }

                if (row < _rows)
                {
                    losses[row] = normalizer - _wanted[row];
                }
            }
        });
        return losses.Sum();
    }

    // softmax - onehot, and the resulting gradients of the rows and the weight.
    private void AddGradients(int worker, int block)
    {
        var (first, count) = Rows(block);
        var scores = _scores + (first * _stride);
        for (nint i = 0; i < count; i++)
        {
            for (nint row = 0; row < _padded; row += TVectors.Width)
            {
                var place = scores + (i * _stride) + row;
                TVectors.Store(place, TVectors.Multiply(TVectors.Load(place), TVectors.Load(_factors + (block * _padded) + row)));
            }
        }

        for (nint row = 0; row < _rows; row++)
        {
            if (_targets[row] >= first && _targets[row] < first + count)
            {
                _scores[((nint)_targets[row] * _stride) + row] -= 1;
            }
        }

        for (nint i = 0; _slopes != null && i < count; i++)
        {
            VectorFunctions.Multiply<TVectors, TVector>(scores + (i * _stride), _slopes + ((first + i) * _stride), _padded);
        }

        if (_chunk.GradHidden is not null)
        {
            AddHiddenGradient(worker, block);
        }

        for (nint feature = 0; _gradWeight != null && feature < _features; feature += _strip)
        {
            var target = new TileProduct.Target(_gradWeight + (first * _features) + feature, _features, adds: !_chunk.IsFirst);
            TileProduct.Run<TVectors, TVector>(
                new TileProduct.Factor(scores, _stride, 1), _featureStrips + (feature * _padded), _strip, target, count, Math.Min(_strip, _features - feature), _padded);
        }
    }

    private void AddHiddenGradient(int worker, int block)
    {
        var (first, count) = Rows(block);
        var strips = _weights + (worker * WeightRoom);
        var features = strips + (BlockRows * (_features + _strip));
        for (nint i = 0; i < count; i++)
        {
            _weight.Read((0, 0), (first + i, 1), _features, features, _features);
            ToStrips(features, strips, i, count);
        }

        for (nint feature = 0; feature < _features; feature += _strip)
        {
            var target = new TileProduct.Target(_gradients + (worker * _padded * _features) + feature, _features, adds: block != worker);
            TileProduct.Run<TVectors, TVector>(
                new TileProduct.Factor(_scores + (first * _stride), 1, _stride), strips + (feature * count), _strip, target, _padded, Math.Min(_strip, _features - feature), count);
        }
    }

    // Sums the threads' parts.
    private void WriteHiddenGradient()
    {
        if (_chunk.GradHidden is not { } gradient)
        {
            return;
        }

        var states = HeadStates.OfRows(gradient);
        CpuKernel.Run(_rows, _features * _workers, (start, end) =>
        {
            for (var row = (nint)start; row < end; row++)
            {
                var sum = new Span<float>(_gradients + (row * _features), (int)_features);
                for (var worker = 1; worker < _workers; worker++)
                {
                    var part = _gradients + (((worker * _padded) + row) * _features);
                    for (var i = 0; i < sum.Length; i++)
                    {
                        sum[i] += part[i];
                    }
                }

                states.Write((0, 0), row, _gradients + (row * _features), _features, _chunk.Multiplier);
            }
        });
    }

    private (nint First, nint Count) Rows(int block) => (block * (nint)BlockRows, Math.Min(BlockRows, _vocabulary - (block * (nint)BlockRows)));
}
