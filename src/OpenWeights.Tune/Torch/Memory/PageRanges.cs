namespace OpenWeights.Tune.Torch.Memory;

/// <summary>Parts of the address space that do not overlap, in order: of the pool's, those whose pages may lie in memory.</summary>
internal sealed class PageRanges
{
    private readonly List<(long Start, long End)> _ranges = [];

    /// <summary>Their length together.</summary>
    internal long Total { get; private set; }

    /// <summary>How much of a part is among them.</summary>
    internal long Within(long start, long end)
    {
        var sum = 0L;
        for (var i = FirstEndingAfter(start); i < _ranges.Count && _ranges[i].Start < end; i++)
        {
            sum += Math.Min(end, _ranges[i].End) - Math.Max(start, _ranges[i].Start);
        }

        return sum;
    }

    /// <summary>Puts a part among them.</summary>
    internal void Add(long start, long end)
    {
        var first = FirstEndingAfter(start - 1);
        var last = first;
        for (; last < _ranges.Count && _ranges[last].Start <= end; last++)
        {
            Total -= _ranges[last].End - _ranges[last].Start;
            start = Math.Min(start, _ranges[last].Start);
            end = Math.Max(end, _ranges[last].End);
        }

        _ranges.RemoveRange(first, last - first);
        _ranges.Insert(first, (start, end));
        Total += end - start;
    }

    /// <summary>Takes a part out.</summary>
    internal void Remove(long start, long end)
    {
        for (var i = FirstEndingAfter(start); i < _ranges.Count && _ranges[i].Start < end;)
        {
            var range = _ranges[i];
            Total -= Math.Min(end, range.End) - Math.Max(start, range.Start);
            _ranges.RemoveAt(i);
            if (range.Start < start)
            {
                _ranges.Insert(i++, (range.Start, start));
            }

            if (end < range.End)
            {
                _ranges.Insert(i++, (end, range.End));
            }
        }
    }

    // The first range that ends behind a place.
    private int FirstEndingAfter(long at)
    {
        var (low, high) = (0, _ranges.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = _ranges[middle].End > at ? (low, middle) : (middle + 1, high);
        }

        return low;
    }
}

/// <summary>The system's memory, in whole pages.</summary>
internal interface IPageSource
{
    /// <summary>Reserves addresses, which take no memory until they are opened and used; 0 where the system refuses.</summary>
    long Reserve(long size);

    /// <summary>Makes reserved addresses usable; false where the system refuses.</summary>
    bool Open(long start, long size);

    /// <summary>Gives the memory of usable addresses back; they stay usable.</summary>
    bool GiveBack(long start, long size);
}
