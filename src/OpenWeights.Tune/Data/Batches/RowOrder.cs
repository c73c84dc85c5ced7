namespace OpenWeights.Tune.Data.Batches;

/// <summary>The order of rows as a pure function of seed, epoch and position, the same on every machine and .NET version.</summary>
internal static class RowOrder
{
    private const int Window = 2048;
    private const int Block = 64;

    /// <summary>The row indexes of an epoch.</summary>
    /// <param name="count">Number of rows.</param>
    /// <param name="shuffle">Whether the order is random; otherwise it is the data's.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="epoch">The epoch, from 0.</param>
    public static int[] Of(int count, bool shuffle, long seed, long epoch)
    {
        var order = new int[count];
        for (var i = 0; i < count; i++)
        {
            order[i] = i;
        }

        if (shuffle)
        {
            var state = (ulong)seed ^ ((ulong)epoch * 0xD1342543DE82EF95);
            for (var i = count - 1; i > 0; i--)
            {
                var other = (int)(((UInt128)Next(ref state) * (ulong)(i + 1)) >> 64);
                (order[i], order[other]) = (order[other], order[i]);
            }
        }

        return order;
    }

    /// <summary>
    /// Groups rows of similar length: each window of the order is sorted by length and cut into blocks, which are then
    /// shuffled. The result depends only on order, lengths, seed and epoch; batches whose size divides the block size have similar lengths.
    /// </summary>
    /// <param name="order">Row indexes of an epoch; modified in place.</param>
    /// <param name="lengthOf">Length of a row in tokens, by index.</param>
    /// <param name="seed">Seed of the run.</param>
    /// <param name="epoch">The epoch, from 0.</param>
    public static void GroupByLength(int[] order, Func<int, int> lengthOf, long seed, long epoch)
    {
        ArgumentNullException.ThrowIfNull(order);
        for (var start = 0; start < order.Length; start += Window)
        {
            var sorted = order.AsSpan(start, Math.Min(Window, order.Length - start)).ToArray().OrderBy(lengthOf).ToArray();

            // The last block may be short: it stays last, so that all others are aligned with batches.
            var blocks = Of(sorted.Length / Block, shuffle: true, seed ^ (start + 1), epoch);
            var at = start;
            foreach (var block in blocks)
            {
                sorted.AsSpan(block * Block, Block).CopyTo(order.AsSpan(at));
                at += Block;
            }

            sorted.AsSpan(blocks.Length * Block).CopyTo(order.AsSpan(at));
        }
    }

    // SplitMix64 (Steele, Lea and Flood, 2014).
    private static ulong Next(ref ulong state)
    {
        var z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
