using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Packs short rows into rows of a given length.</summary>
internal static class Packer
{
    /// <summary>
    /// Assigns rows to packed rows by best-fit decreasing: longest rows first, each into the packed row with the least remaining space.
    /// </summary>
    /// <param name="lengths">Lengths of the rows, in tokens.</param>
    /// <param name="length">Length of a packed row, in tokens.</param>
    /// <returns>For each packed row the indexes of its rows, in the order of their first rows.</returns>
    public static int[][] Bins(IReadOnlyList<int> lengths, int length)
    {
        ArgumentNullException.ThrowIfNull(lengths);
        var bins = new List<List<int>>();

        // Open bins by remaining space; the queue keeps the oldest first, so that the result is deterministic.
        var open = new SortedDictionary<int, Queue<int>>();
        var rooms = new SortedSet<int>();
        foreach (var row in Enumerable.Range(0, lengths.Count).OrderByDescending(i => lengths[i]))
        {
            var need = lengths[row];
            var room = rooms.GetViewBetween(Math.Min(need, length), length).Min;
            int bin;
            if (room >= need && open.TryGetValue(room, out var queue))
            {
                bin = queue.Dequeue();
                if (queue.Count == 0)
                {
                    _ = open.Remove(room);
                    _ = rooms.Remove(room);
                }
            }
            else
            {
                (bin, room) = (bins.Count, length);
                bins.Add([]);
            }

            bins[bin].Add(row);
            if (room - need > 0)
            {
                if (!open.TryGetValue(room - need, out var same))
                {
                    open[room - need] = same = new Queue<int>();
                    _ = rooms.Add(room - need);
                }

                same.Enqueue(bin);
            }
        }

        // In the order of the data where possible.
        return [.. bins.OrderBy(static b => b.Min()).Select(static b => b.ToArray())];
    }

    /// <summary>Concatenates rows of one document each into one row.</summary>
    internal static TokenRow Join(IReadOnlyList<TokenRow> rows) => new(
        [.. rows.SelectMany(static r => r.Ids)],
        [.. rows.SelectMany(static r => r.Labels)],
        [.. rows.Select(static r => r.Ids.Length)],
        string.Join("; ", rows.Select(static r => r.Source)));
}
