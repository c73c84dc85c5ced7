using NUnit.Framework;
using OpenWeights.Tune.Torch.Memory;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>The pool of large blocks, over addresses that are only numbers.</summary>
public sealed class BlockPoolTests
{
    private const long Mebi = 1 << 20;

    [Test]
    public void Blocks_never_overlap_and_what_is_in_memory_stays_near_the_most_that_was_in_use()
    {
        var source = new Numbers();
        var pool = new BlockPool(source, 1024 * Mebi);
        var random = new Random(1);
        var blocks = new SortedDictionary<long, long>();
        long live = 0, most = 0;
        for (var i = 0; i < 20_000; i++)
        {
            if (blocks.Count > 0 && (live > 500 * Mebi || random.Next(2) == 0))
            {
                var block = blocks.ElementAt(random.Next(blocks.Count));
                _ = blocks.Remove(block.Key);
                live -= block.Value;
                Assert.That(pool.Put(block.Key), Is.True);
                continue;
            }

            var size = random.NextInt64(BlockPool.MinSize, 24 * Mebi);
            var start = pool.Take(size);
            Assert.That(start % 4096, Is.Zero);
            Assert.That(blocks.All(b => b.Key + b.Value <= start || b.Key >= start + size), Is.True, "a block lies where another is");
            blocks.Add(start, size);
            live += size;
            most = Math.Max(most, live);
            source.Touch(start, size);
        }

        // A block may be larger than it was asked for by what would be too little to keep apart.
        var slack = (16 * Mebi) + (500 * BlockPool.MinSize);
        Assert.That(source.MaxInMemory, Is.LessThan(most + slack));
        Assert.That(pool.Statistics.Live, Is.InRange(live, live + (blocks.Count * BlockPool.MinSize)));
        foreach (var block in blocks.Keys)
        {
            Assert.That(pool.Put(block), Is.True);
        }

        Assert.That(pool.Statistics.Live, Is.Zero);
        Assert.That(pool.Take(300 * Mebi), Is.EqualTo(source.First), "free blocks have joined again");
    }

    [Test]
    public void What_is_not_the_pools_is_refused_and_what_the_system_refuses_is_no_block()
    {
        var source = new Numbers { Limit = 512 * Mebi };
        var pool = new BlockPool(source, 1024 * Mebi);
        Assert.That(pool.Put(4096), Is.False);
        Assert.That(pool.Take(600 * Mebi), Is.Zero);
        Assert.That(pool.Take(long.MaxValue), Is.Zero);
        var block = pool.Take(100 * Mebi);
        Assert.That(block, Is.Not.Zero);
        Assert.That(pool.Put(block + 4096), Is.False);
        Assert.That(pool.Put(block), Is.True);
        Assert.That(pool.Put(block), Is.False);
    }

    /// <summary>Addresses that nothing lies at; the pages that would be in memory are counted.</summary>
    private sealed class Numbers : IPageSource
    {
        private readonly HashSet<long> _inMemory = [];
        private long _next = 1 << 30;

        internal long Limit { get; init; } = long.MaxValue;

        internal long First { get; private set; }

        internal long MaxInMemory { get; private set; }

        public long Reserve(long size)
        {
            if (size > Limit)
            {
                return 0;
            }

            First = First == 0 ? _next : First;
            _next += size;
            return _next - size;
        }

        public bool Open(long start, long size) => true;

        public bool GiveBack(long start, long size)
        {
            for (var page = start / 4096; page < (start + size) / 4096; page++)
            {
                _ = _inMemory.Remove(page);
            }

            return true;
        }

        internal void Touch(long start, long size)
        {
            for (var page = start / 4096; page <= (start + size - 1) / 4096; page++)
            {
                _ = _inMemory.Add(page);
            }

            MaxInMemory = Math.Max(MaxInMemory, _inMemory.Count * 4096L);
        }
    }
}
