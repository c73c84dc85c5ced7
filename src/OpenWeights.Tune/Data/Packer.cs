namespace OpenWeights.Tune.Data;

/// <summary>Packs short rows into rows of a given length.</summary>
public static class Packer
{
    /// <summary>Best fit, longest rows first: each row goes where it leaves the least room.</summary>
    /// <param name="rows">Rows of one document each.</param>
    /// <param name="length">The length of a packed row, in tokens.</param>
    /// <returns>Packed rows, each document with its labels, in the order in which they were opened.</returns>
    public static IReadOnlyList<TokenRow> Pack(IReadOnlyList<TokenRow> rows, int length)
    {
        ArgumentNullException.ThrowIfNull(rows);
        var bins = new List<List<TokenRow>>();

        // Open bins by the room they have left; the queue keeps the oldest first, so that the result is the same everywhere.
        var open = new SortedDictionary<int, Queue<int>>();
        var rooms = new SortedSet<int>();
        foreach (var row in rows.OrderByDescending(static r => r.Ids.Length))
        {
            var need = row.Ids.Length;
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

        return [.. bins.Select(Join)];
    }

    private static TokenRow Join(List<TokenRow> rows) => new(
        [.. rows.SelectMany(static r => r.Ids)],
        [.. rows.SelectMany(static r => r.Labels)],
        [.. rows.Select(static r => r.Ids.Length)],
        string.Join("; ", rows.Select(static r => r.Source)));
}
