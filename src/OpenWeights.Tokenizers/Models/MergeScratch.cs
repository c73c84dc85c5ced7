namespace OpenWeights.Tokenizers;

/// <summary>
/// The symbols of one word while BPE merges them: always the pair of the smallest rank, the leftmost of equals
/// (Sennrich, Haddow and Birch, 2016, arXiv:1508.07909). The buffers are kept between words.
/// </summary>
internal sealed class MergeScratch
{
    /// <summary>Up to this many symbols a scan for the smallest rank is faster than a heap.</summary>
    private const int ScanLimit = 48;

    private int[] _symbols = new int[64];
    private int[] _ends = new int[64];
    private int[] _ranks = new int[64];
    private int[] _numbers = new int[64];
    private int[] _previous = [];
    private int[] _next = [];
    private ulong[] _heap = [];
    private int _heapCount;

    /// <summary>Symbols of the word.</summary>
    public int Count { get; private set; }

    /// <summary>The symbols.</summary>
    public ReadOnlySpan<int> Symbols => _symbols.AsSpan(0, Count);

    /// <summary>Where each symbol ends, in the unit that the caller counts in; it begins where the one before ends.</summary>
    public ReadOnlySpan<int> Ends => _ends.AsSpan(0, Count);

    /// <summary>Begins a word of at most <paramref name="capacity"/> symbols.</summary>
    public void Begin(int capacity)
    {
        Count = 0;
        if (_symbols.Length < capacity)
        {
            var size = Math.Max(capacity, _symbols.Length * 2);
            _symbols = new int[size];
            _ends = new int[size];
            _ranks = new int[size];
            _numbers = new int[size];
        }
    }

    /// <summary>Adds a symbol that ends at <paramref name="end"/>.</summary>
    public void Add(int symbol, int end)
    {
        if (Count == _symbols.Length)
        {
            Array.Resize(ref _symbols, Count * 2);
            Array.Resize(ref _ends, Count * 2);
            _ranks = new int[Count * 2];
            _numbers = new int[Count * 2];
        }

        _symbols[Count] = symbol;
        _ends[Count] = end;
        Count++;
    }

    /// <summary>Merges until no pair merges any more.</summary>
    public void Merge(PairTable pairs)
    {
        if (Count < 2)
        {
            return;
        }

        if (Count <= ScanLimit)
        {
            MergeByScan(pairs);
        }
        else
        {
            MergeByHeap(pairs);
        }
    }

    private void MergeByScan(PairTable pairs)
    {
        var symbols = _symbols;
        var ends = _ends;
        var ranks = _ranks;
        var numbers = _numbers;
        var count = Count;
        for (var i = 0; i + 1 < count; i++)
        {
            ranks[i] = pairs.Find(symbols[i], symbols[i + 1], out numbers[i]);
        }

        while (count > 1)
        {
            var best = 0;
            var bestRank = ranks[0];
            for (var i = 1; i < count - 1; i++)
            {
                if (ranks[i] < bestRank)
                {
                    bestRank = ranks[i];
                    best = i;
                }
            }

            if (bestRank == int.MaxValue)
            {
                break;
            }

            symbols[best] = pairs.Merged(numbers[best]);
            ends[best] = ends[best + 1];
            count--;
            for (var i = best + 1; i < count; i++)
            {
                symbols[i] = symbols[i + 1];
                ends[i] = ends[i + 1];
                ranks[i] = ranks[i + 1];
                numbers[i] = numbers[i + 1];
            }

            if (best > 0)
            {
                ranks[best - 1] = pairs.Find(symbols[best - 1], symbols[best], out numbers[best - 1]);
            }

            if (best + 1 < count)
            {
                ranks[best] = pairs.Find(symbols[best], symbols[best + 1], out numbers[best]);
            }
        }

        Count = count;
    }

    private void MergeByHeap(PairTable pairs)
    {
        BeginHeap();
        for (var i = 0; i + 1 < Count; i++)
        {
            Enqueue(pairs, i, i + 1);
        }

        while (_heapCount > 0)
        {
            var top = Dequeue();
            var left = (int)(uint)top;
            var right = _next[left];
            // An entry is stale once either of its symbols has merged with another; the pair that stands there now has its own entry.
            if (right < 0 || _symbols[left] < 0 || pairs.Find(_symbols[left], _symbols[right], out var number) != (int)(top >> 32))
            {
                continue;
            }

            _symbols[left] = pairs.Merged(number);
            _ends[left] = _ends[right];
            _symbols[right] = -1;
            var after = _next[right];
            _next[left] = after;
            _next[right] = -1;
            if (after >= 0)
            {
                _previous[after] = left;
                Enqueue(pairs, left, after);
            }

            if (_previous[left] >= 0)
            {
                Enqueue(pairs, _previous[left], left);
            }
        }

        Compact();
    }

    private void BeginHeap()
    {
        if (_next.Length < Count)
        {
            _next = new int[_symbols.Length];
            _previous = new int[_symbols.Length];
            _heap = new ulong[_symbols.Length];
        }

        _heapCount = 0;
        for (var i = 0; i < Count; i++)
        {
            _previous[i] = i - 1;
            _next[i] = i + 1 < Count ? i + 1 : -1;
        }
    }

    private void Compact()
    {
        var kept = 0;
        for (var i = 0; i >= 0; i = _next[i])
        {
            _symbols[kept] = _symbols[i];
            _ends[kept] = _ends[i];
            kept++;
        }

        Count = kept;
    }

    private void Enqueue(PairTable pairs, int left, int right)
    {
        var rank = pairs.Find(_symbols[left], _symbols[right], out _);
        if (rank == int.MaxValue)
        {
            return;
        }

        if (_heapCount == _heap.Length)
        {
            Array.Resize(ref _heap, _heapCount * 2);
        }

        var item = ((ulong)(uint)rank << 32) | (uint)left;
        var i = _heapCount++;
        while (i > 0)
        {
            var parent = (i - 1) >> 2;
            if (_heap[parent] <= item)
            {
                break;
            }

            _heap[i] = _heap[parent];
            i = parent;
        }

        _heap[i] = item;
    }

    private ulong Dequeue()
    {
        var top = _heap[0];
        var item = _heap[--_heapCount];
        var i = 0;
        while (true)
        {
            var child = (i << 2) + 1;
            if (child >= _heapCount)
            {
                break;
            }

            var smallest = child;
            var last = Math.Min(child + 4, _heapCount);
            for (var j = child + 1; j < last; j++)
            {
                if (_heap[j] < _heap[smallest])
                {
                    smallest = j;
                }
            }

            if (_heap[smallest] >= item)
            {
                break;
            }

            _heap[i] = _heap[smallest];
            i = smallest;
        }

        _heap[i] = item;
        return top;
    }
}
