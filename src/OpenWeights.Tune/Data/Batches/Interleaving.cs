using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data.Batches;

/// <summary>Interleaves the rows of several data sets.</summary>
internal static class Interleaving
{
    // 2 to the power of -53, to convert 53 random bits to a number below 1.
    private const double Unit = 1.0 / (1L << 53);

    /// <summary>The rows of data sets, each data set repeated by its weight and repeat setting and in its own order, the data sets evenly interleaved.</summary>
    /// <param name="sets">The data sets.</param>
    /// <param name="seed">Selects the rows repeated by a fractional weight, and the data set that comes first.</param>
    internal static RowSlices Weighted(IReadOnlyList<(DataSource Source, RowSlices Rows)> sets, long seed)
    {
        if (sets is [({ Weight: 1, Repeat: 1 }, var alone)])
        {
            return alone;
        }

        int[][] units = [.. sets.Select((s, i) => Repeated(Units(s.Rows), s.Source.Weight * s.Source.Repeat, i, seed))];
        var mixed = new RowSlices();
        foreach (var (set, unit) in Mixed([.. units.Select(static u => u.Length)], seed))
        {
            var (rows, first) = (sets[set].Rows, units[set][unit]);
            for (var row = first; row < first + Together(rows, first); row++)
            {
                mixed.Add(rows[row]);
            }
        }

        return mixed;
    }

    /// <summary>The rows of data sets, one data set after the other.</summary>
    internal static RowSlices InTurn(IEnumerable<RowSlices> sets)
    {
        var all = new RowSlices();
        foreach (var slice in sets.SelectMany(static s => s))
        {
            all.Add(slice);
        }

        return all;
    }

    /// <summary>
    /// Interleaves lists evenly: item i of n of a list is placed at (i + u) / n of the whole, with u drawn from the seed for each list. So
    /// every part of the result contains each list in proportion, and the items of a list keep their order.
    /// </summary>
    /// <param name="counts">Lengths of the lists.</param>
    /// <param name="seed">The seed.</param>
    internal static IEnumerable<(int List, int Item)> Mixed(int[] counts, long seed)
    {
        var next = new PriorityQueue<(int List, int Item), (double Place, int List)>();
        (double, int) Place(int list, int item) => ((item + ((RowHash.Mix((ulong)list, seed) >> 11) * Unit)) / counts[list], list);
        foreach (var list in Enumerable.Range(0, counts.Length).Where(l => counts[l] > 0))
        {
            next.Enqueue((list, 0), Place(list, 0));
        }

        while (next.TryDequeue(out var place, out _))
        {
            yield return place;
            if (place.Item + 1 < counts[place.List])
            {
                next.Enqueue((place.List, place.Item + 1), Place(place.List, place.Item + 1));
            }
        }
    }

    // A chosen answer and the rejected one that follows it stay together.
    private static int Together(RowSlices rows, int row) => rows[row].Role == RowRole.Chosen ? 2 : 1;

    // The first rows of pairs.
    private static List<int> Units(RowSlices rows)
    {
        var units = new List<int>(rows.Count);
        for (var i = 0; i < rows.Count; i += Together(rows, i))
        {
            units.Add(i);
        }

        return units;
    }

    private static int[] Repeated(List<int> units, double times, int set, long seed)
    {
        var whole = (int)Math.Floor(times);
        var rest = (int)Math.Round((times - whole) * units.Count);
        IEnumerable<int> chosen = rest == 0 ? [] : Enumerable.Range(0, units.Count).OrderBy(i => RowHash.Mix(((ulong)set << 40) + (ulong)i, seed)).Take(rest).Order();
        return [.. Enumerable.Repeat(units, whole).SelectMany(static u => u), .. chosen.Select(i => units[i])];
    }
}
