namespace OpenWeights.Tune.Models;

/// <summary>Divides layers in order among devices, so that the fullest is as little full as possible.</summary>
internal static class LayerSplit
{
    /// <summary>Number of layers of each device, at least one.</summary>
    /// <param name="layers">What each layer takes, in bytes.</param>
    /// <param name="first">What the first device has besides layers.</param>
    /// <param name="last">What the last device has besides layers.</param>
    /// <param name="room">Free bytes of each device.</param>
    internal static int[] Of(IReadOnlyList<long> layers, long first, long last, IReadOnlyList<long> room)
    {
        if (room.Count > layers.Count)
        {
            throw new InvalidDataException($"the model has {layers.Count} layers, too few for {room.Count} devices; name at most {layers.Count}.");
        }

        // fullness[d][n]: the least fullness of the first d devices with the first n layers, and how many of them device d has.
        var (devices, count) = (room.Count, layers.Count);
        var sums = new double[count + 1];
        for (var i = 0; i < count; i++)
        {
            sums[i + 1] = sums[i] + layers[i];
        }

        var (fullness, taken) = (new double[devices, count + 1], new int[devices, count + 1]);
        for (var d = 0; d < devices; d++)
        {
            for (var n = d + 1; n <= count - (devices - 1 - d); n++)
            {
                fullness[d, n] = double.PositiveInfinity;
                for (var own = d == 0 ? n : 1; own <= n - d; own++)
                {
                    var extra = (d == 0 ? first : 0) + (d == devices - 1 ? last : 0);
                    var full = (sums[n] - sums[n - own] + extra) / Math.Max(1, room[d]);
                    full = d == 0 ? full : Math.Max(full, fullness[d - 1, n - own]);
                    if (full < fullness[d, n])
                    {
                        (fullness[d, n], taken[d, n]) = (full, own);
                    }
                }
            }
        }

        var counts = new int[devices];
        for (int d = devices - 1, left = count; d >= 0; d--)
        {
            counts[d] = taken[d, left];
            left -= counts[d];
        }

        return counts;
    }
}
