namespace OpenWeights.Tune.Torch.Memory;

/// <summary>
/// Large blocks of memory. A training step asks for the same ones again and again, or for some that are a little larger or smaller where
/// batches differ in length. The C library's heap either keeps holes that the next block does not fit into, or gives pages back that the
/// next step faults in again. So blocks are cut from one range of addresses that stays here, each as low as it fits: what lives long
/// gathers at the bottom, and free blocks join their neighbours. Where gaps make the pages in memory more than the most that was ever in
/// use, those of free blocks go back to the system. OpenWeights.LibTorch has the same in C++ (block_pool.h).
/// </summary>
/// <param name="source">Where pages come from.</param>
/// <param name="rangeSize">How many addresses to reserve at once.</param>
internal sealed class BlockPool(IPageSource source, long rangeSize)
{
    /// <summary>Blocks of fewer bytes are not the pool's matter.</summary>
    internal const long MinSize = 1 << 18;

    private const long Page = 4096;
    private const long HugePage = 1 << 21;
    private const long Step = 64 << 20;

    // What may lie in memory beyond the most that was in use at once.
    private const long Slack = 8 << 20;

    private readonly Lock _gate = new();
    private readonly List<(long Start, long Size)> _free = [];
    private readonly Dictionary<long, long> _used = [];
    private readonly PageRanges _resident = new();

    // Of the range that was reserved last: where the part begins that is not usable yet, and where it ends. Ranges are never given back.
    private long _opened;
    private long _end;
    private long _most;

    /// <summary>Bytes in use, the most of them at once, and those that were in use and have not gone back to the system.</summary>
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

    /// <summary>A block, on a page's beginning: the lowest free one that holds the size, what is left over of it staying free. 0 where the system refuses.</summary>
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

    /// <summary>Takes a block back; false where it is none of the pool's.</summary>
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

    // Joins a block with the free ones beside it.
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

    // A part is about to lie in memory. Pages of free blocks make room for it where it would be too much, the highest first, since the
    // lowest are used again soonest.
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

    // Lets pages of a part go, from its end on, until they are as many as are wanted.
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

    // More of the range becomes usable; where it is full, or the system refused so large a range, another is reserved.
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
