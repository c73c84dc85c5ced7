namespace OpenWeights.Tune.Data;

/// <summary>The order of rows as a pure function of seed, epoch and position, the same on every machine and version of .NET.</summary>
public static class RowOrder
{
    /// <summary>The rows of an epoch by number.</summary>
    /// <param name="count">The number of rows.</param>
    /// <param name="shuffle">Whether the order is random; else it is the data's.</param>
    /// <param name="seed">The run's seed.</param>
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

    // SplitMix64 (Steele, Lea and Flood, 2014).
    private static ulong Next(ref ulong state)
    {
        var z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
