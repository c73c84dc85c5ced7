using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Linear layers with the same input; their outputs are concatenated. Rows can have low-rank updates of their own.</summary>
internal sealed class DecodeProducts
{
    // Bytes of weights per part, so that threads finish at about the same time: a thread takes parts that follow each other, so that small ones cost little.
    private const long PartBytes = 1 << 15;
    private const int MostParts = 1 << 12;

    private readonly IReadOnlyList<LinearLayer> _layers;
    private readonly DecodeProduct[] _products;
    private readonly Dictionary<object, DecodeUpdates> _known = new(ReferenceEqualityComparer.Instance);
    private readonly List<(DecodeUpdates Updates, DecodeGroup Group)> _groups = [];
    private readonly nint _rows;
    private readonly nint _size;
    private readonly bool _half;
    private DecodeBuffer _inner;
    private nint _stride;

    private DecodeProducts(IReadOnlyList<LinearLayer> layers, DecodeProduct[] products, nint rows, bool half)
    {
        (_layers, _products, _rows, _half) = (layers, products, rows, half);
        Columns = products.Aggregate((nint)0, static (sum, p) => sum + p.Columns);
        Rank = products.Aggregate((nint)0, static (sum, p) => sum + p.Rank);
        _size = products[0].RowBytes;
        (_stride, _inner) = (Rank, new DecodeBuffer(rows * Rank));
    }

    /// <summary>Total number of output features.</summary>
    internal nint Columns { get; }

    /// <summary>Sum of the ranks of the updates that all rows have.</summary>
    internal nint Rank { get; }

    /// <summary>The layers.</summary>
    internal IReadOnlyList<LinearLayer> Layers => _layers;

    /// <summary>Builds the products of layers; null if one is not supported.</summary>
    internal static DecodeProducts? Of(nint rows, ScalarType dtype, params IEnumerable<LinearLayer> layers)
    {
        LinearLayer[] all = [.. layers];
        var products = all.Select(l => DecodeProduct.Of(l, dtype)).OfType<DecodeProduct>().ToArray();
        return products.Length == all.Length ? new DecodeProducts(all, products, rows, dtype == ScalarType.BFloat16) : null;
    }

    /// <summary>Makes an adapter known that rows can have.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="updateOf">Its update of a layer; null for none.</param>
    internal void Know(object adapter, Func<LinearLayer, LowRankUpdate?> updateOf)
    {
        var updates = DecodeUpdates.Of(_layers, updateOf);
        if (updates.Rank == 0)
        {
            return;
        }

        _known[adapter] = updates;
        if (updates.Rank > _stride)
        {
            (_stride, _inner) = (updates.Rank, new DecodeBuffer(_rows * updates.Rank));
        }
    }

    /// <summary>Says which rows of the next step have adapters of their own.</summary>
    internal void Use(IReadOnlyList<DecodeGroup> groups)
    {
        _groups.Clear();
        foreach (var group in groups)
        {
            if (_known.TryGetValue(group.Adapter, out var updates))
            {
                _groups.Add((updates, group));
            }
        }
    }

    /// <summary>Number of parts that some of the outputs are split into.</summary>
    /// <param name="columns">Number of outputs.</param>
    /// <param name="threads">Number of threads.</param>
    internal int Parts(nint columns, int threads)
    {
        var parts = Math.Min(columns * _size / PartBytes, MostParts);
        return parts < threads ? (int)Math.Max(1, parts) : (int)(parts / threads * threads);
    }

    /// <summary>Fetches the weights that a thread reads first of some outputs.</summary>
    /// <param name="first">The first of the outputs.</param>
    /// <param name="count">Number of outputs, of which each thread has a range.</param>
    /// <param name="thread">Index of the thread, and number of threads.</param>
    /// <returns>True.</returns>
    internal bool Fetch(nint first, nint count, (int Index, int Count) thread)
    {
        var column = first + (count * thread.Index / thread.Count);
        foreach (var product in _products)
        {
            if (column < product.Columns)
            {
                product.Fetch(column);
                break;
            }

            column -= product.Columns;
        }

        return true;
    }

    /// <summary>Number of parts that the products A x are split into; 0 for none.</summary>
    internal int InnerParts(int threads) => AllRanks is 0 ? 0 : Parts(AllRanks, threads);

    /// <summary>Computes a part of the products A x.</summary>
    internal void RunInner(int part, int parts, in FloatRows states)
    {
        var all = AllRanks;
        var (first, last, start) = (all * part / parts, all * (part + 1) / parts, (nint)0);
        foreach (var product in _products)
        {
            var (from, to) = (Math.Max(first, start) - start, Math.Min(last, start + product.Rank) - start);
            if (from < to)
            {
                product.RunInner(from, to, states, InnerOf(states.Count).From(start));
            }

            start += product.Rank;
        }

        foreach (var (updates, group) in _groups)
        {
            var (from, to) = (Math.Max(first, start) - start, Math.Min(last, start + updates.Rank) - start);
            if (from < to)
            {
                updates.RunInner(from, to, Rows(states, group), Rows(InnerOf(states.Count), group));
            }

            start += updates.Rank;
        }
    }

    /// <summary>Computes a range of the outputs.</summary>
    internal void Run(nint first, nint last, in FloatRows states, in FloatRows output)
    {
        var (start, inner) = ((nint)0, (nint)0);
        for (var i = 0; i < _products.Length; i++)
        {
            var product = _products[i];
            var (from, to) = (Math.Max(first, start) - start, Math.Min(last, start + product.Columns) - start);
            if (from < to)
            {
                product.Run(from, to, states, InnerOf(states.Count).From(inner), output.From(start));
                foreach (var (updates, group) in _groups)
                {
                    updates.Add(i, (from, to), Rows(InnerOf(states.Count), group), Rows(output.From(start), group), _half);
                }
            }

            start += product.Columns;
            inner += product.Rank;
        }
    }

    // Of the updates of all rows, and of those of groups.
    private nint AllRanks
    {
        get
        {
            var all = Rank;
            foreach (var (updates, _) in _groups)
            {
                all += updates.Rank;
            }

            return all;
        }
    }

    private static FloatRows Rows(in FloatRows rows, DecodeGroup group) => rows.Down(group.First) with { Count = group.Count };

    private unsafe FloatRows InnerOf(nint rows) => new((nint)_inner.Start, _stride, rows);
}
