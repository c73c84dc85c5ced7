namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// A pool of large memory blocks. A training step allocates the same block sizes repeatedly, or slightly different ones if
/// batches differ in length. The C library's heap either keeps holes that the next block does not fit into, or returns pages that the
/// next step faults in again. So blocks are taken from one reserved range of addresses, each from the lowest that fits: long-lived blocks
/// collect at the bottom, and adjacent free blocks are merged. If gaps make the resident pages exceed the peak of bytes in
/// use, pages of free blocks are returned to the system. OpenWeights.LibTorch has the same in C++ (block_pool.h).
/// </summary>
/// <param name="source">Supplies pages.</param>
/// <param name="rangeSize">Number of addresses to reserve at once.</param>
internal sealed class BlockPool(IPageSource source, long rangeSize)
{
    /// <summary>Minimum size of a block in bytes; smaller ones are not taken from the pool.</summary>
    internal const long MinSize = 1 << 18;

    private const long Page = 4096;
    private const long HugePage = 1 << 21;
    private const long Step = 64 << 20;

    /// <summary>Bytes that may be resident beyond the peak in use.</summary>
    internal const long Slack = 8 << 20;

    private readonly Lock _gate = new();
    private readonly List<(long Start, long Size)> _free = [];
    private readonly Dictionary<long, long> _used = [];
    private readonly PageRanges _resident = new();

    // Start of the part of the last reserved range that is not yet usable, and end of the range. Ranges are never released.
    private long _opened;
    private long _end;
    private long _most;

    /// <summary>Bytes in use, their peak, and bytes of free blocks that are still resident.</summary>
    internal (long Live, long Peak, long Cached) Statistics
    {
        get
        {
            lock (_gate)
            {
                return (Live, _most, Math.Max(0, _resident.Total - Live));
            }
        }
    }

    private long Live { get; set; }

    /// <summary>
    /// Allocates a page-aligned block: the lowest free one of sufficient size, whose remainder stays free. 0 if the system refuses.
    /// </summary>
    internal long Take(long size)
    {
        lock (_gate)
        {
            if (size > long.MaxValue - Step)
            {
                return 0;
            }

            size = RoundUp(size, Page);
            var found = Lowest(size);
            if (found < 0)
            {
                if (!Grow(size))
                {
                    return 0;
                }

                found = Lowest(size);
            }

            var (start, whole) = _free[found];
            if (whole - size >= MinSize)
            {
                _free[found] = (start + size, whole - size);
                whole = size;
            }
            else
            {
                _free.RemoveAt(found);
            }

            _used.Add(start, whole);
            Live += whole;
            _most = Math.Max(_most, Live);
            Touch(start, start + size);
            return start;
        }
    }

    /// <summary>Resets the peak to the bytes in use.</summary>
    internal void ResetPeak()
    {
        lock (_gate)
        {
            _most = Live;
        }
    }

    /// <summary>Frees a block; false if it is not from the pool.</summary>
    internal bool Put(long block)
    {
        lock (_gate)
        {
            if (!_used.Remove(block, out var size))
            {
                return false;
            }

            Live -= size;
            AddFree(block, size);
            return true;
        }
    }

    private static long RoundUp(long size, long unit) => (size + unit - 1) & ~(unit - 1);

    private static long RoundDown(long size, long unit) => size & ~(unit - 1);

    private int Lowest(long size)
    {
        for (var i = 0; i < _free.Count; i++)
        {
            if (_free[i].Size >= size)
            {
                return i;
            }
        }

        return -1;
    }

    // Merges a block with adjacent free blocks.
    private void AddFree(long start, long size)
    {
        var (low, high) = (0, _free.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = _free[middle].Start > start ? (low, middle) : (middle + 1, high);
        }

        if (low < _free.Count && _free[low].Start == start + size)
        {
            size += _free[low].Size;
            _free.RemoveAt(low);
        }

        if (low > 0 && _free[low - 1].Start + _free[low - 1].Size == start)
        {
            _free[low - 1] = (_free[low - 1].Start, _free[low - 1].Size + size);
        }
        else
        {
            _free.Insert(low, (start, size));
        }
    }

    // Called before a part becomes resident. If the limit would be exceeded, pages of free blocks are released, the highest first, since
    // the lowest are reused soonest.
    private void Touch(long start, long end)
    {
        var fresh = end - start - _resident.Within(start, end);
        var most = _most + Slack;
        for (var i = _free.Count - 1; i >= 0 && fresh > 0 && _resident.Total + fresh > most; i--)
        {
            GiveBack(RoundUp(_free[i].Start, HugePage), RoundDown(_free[i].Start + _free[i].Size, HugePage), _resident.Total + fresh - most);
        }

        _resident.Add(start, end);
    }

    // Releases pages of a part, from its end, until the requested number of bytes is released.
    private void GiveBack(long from, long to, long wanted)
    {
        while (to > from && wanted > 0)
        {
            var start = Math.Max(from, to - RoundUp(wanted, HugePage));
            var there = _resident.Within(start, to);
            if (there > 0 && source.GiveBack(start, to - start))
            {
                _resident.Remove(start, to);
                wanted -= Math.Min(wanted, there);
            }

            to = start;
        }
    }

    // Makes more of the range usable; if it is full, or the system refused such a large range, another is reserved.
    private bool Grow(long size)
    {
        var step = RoundUp(size, Step);
        if ((_end - _opened < step && !Reserve(step)) || !source.Open(_opened, step))
        {
            return false;
        }

        AddFree(_opened, step);
        _opened += step;
        return true;
    }

    private bool Reserve(long least)
    {
        for (var size = Math.Max(least, RoundUp(rangeSize, HugePage)); ; size = Math.Max(least, RoundDown(size / 2, HugePage)))
        {
            var start = source.Reserve(size + HugePage);
            if (start != 0)
            {
                _opened = RoundUp(start, HugePage);
                _end = _opened + size;
                return true;
            }

            if (size == least)
            {
                return false;
            }
        }
    }
}
