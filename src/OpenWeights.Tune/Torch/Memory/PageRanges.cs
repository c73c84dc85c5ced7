namespace OpenWeights.Tune.Torch.Memory;

/// <summary>An ordered set of disjoint address ranges, used for the pages of the pool that may be resident.</summary>
internal sealed class PageRanges
{
    private readonly List<(long Start, long End)> _ranges = [];

    /// <summary>Total length.</summary>
    internal long Total { get; private set; }

    /// <summary>Length of the intersection with a range.</summary>
    internal long Within(long start, long end)
    {
        var sum = 0L;
        for (var i = FirstEndingAfter(start); i < _ranges.Count && _ranges[i].Start < end; i++)
        {
            sum += Math.Min(end, _ranges[i].End) - Math.Max(start, _ranges[i].Start);
        }

        return sum;
    }

    /// <summary>Adds a range.</summary>
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

    /// <summary>Removes a range.</summary>
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

    // The first range that ends after an address.
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

/// <summary>Virtual memory of the system, in whole pages.</summary>
internal interface IPageSource
{
    /// <summary>Reserves addresses without using memory; 0 if the system refuses.</summary>
    long Reserve(long size);

    /// <summary>Makes reserved addresses usable; false if the system refuses.</summary>
    bool Open(long start, long size);

    /// <summary>Releases the memory of usable addresses, which remain usable.</summary>
    bool GiveBack(long start, long size);
}
