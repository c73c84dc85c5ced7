using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Linear layers that read the same rows; their outputs lie side by side.</summary>
internal sealed class DecodeProducts
{
    // What a part of the work reads at least, in bytes; and how many parts a thread gets at most, so that one that is late has little left.
    private const long MinPart = 1 << 15;
    private const int MaxParts = 16;

    private readonly DecodeProduct[] _products;
    private readonly nint _size;

    private DecodeProducts(DecodeProduct[] products, nint rows)
    {
        _products = products;
        Columns = products.Aggregate((nint)0, static (sum, p) => sum + p.Columns);
        Rank = products.Aggregate((nint)0, static (sum, p) => sum + p.Rank);
        _size = products[0].RowBytes;
        Inner = new DecodeBuffer(rows * Rank);
        Rows = rows;
    }

    /// <summary>Width of all outputs.</summary>
    internal nint Columns { get; }

    /// <summary>The ranks of all low-rank updates, added up.</summary>
    internal nint Rank { get; }

    private DecodeBuffer Inner { get; }

    private nint Rows { get; }

    /// <summary>The products of layers; null where one of them is computed otherwise.</summary>
    internal static DecodeProducts? Of(nint rows, ScalarType dtype, params IEnumerable<LinearLayer> layers)
    {
        var products = layers.Select(l => DecodeProduct.Of(l, dtype)).OfType<DecodeProduct>().ToArray();
        return products.Length == layers.Count() ? new DecodeProducts(products, rows) : null;
    }

    /// <summary>Into how many parts the outputs, or some of them, are split.</summary>
    /// <param name="columns">The outputs.</param>
    /// <param name="threads">How many threads there are.</param>
    internal int Parts(nint columns, int threads) => (int)Math.Clamp(columns * _size / MinPart, 1, MaxParts * threads);

    /// <summary>Into how many parts the updates' first products are split; 0 where there are none.</summary>
    internal int InnerParts(int threads) => Rank == 0 ? 0 : Parts(Rank, threads);

    /// <summary>A part of the updates' first products.</summary>
    internal void RunInner(int part, int parts, in FloatRows states)
    {
        var (first, last, start) = (Rank * part / parts, Rank * (part + 1) / parts, (nint)0);
        foreach (var product in _products)
        {
            var (from, to) = (Math.Max(first, start) - start, Math.Min(last, start + product.Rank) - start);
            if (from < to)
            {
                product.RunInner(from, to, states, InnerOf(start));
            }

            start += product.Rank;
        }
    }

    /// <summary>The outputs from a first to before a last.</summary>
    internal void Run(nint first, nint last, in FloatRows states, in FloatRows output)
    {
        var (start, inner) = ((nint)0, (nint)0);
        foreach (var product in _products)
        {
            var (from, to) = (Math.Max(first, start) - start, Math.Min(last, start + product.Columns) - start);
            if (from < to)
            {
                product.Run(from, to, states, InnerOf(inner), output.From(start));
            }

            start += product.Columns;
            inner += product.Rank;
        }
    }

    private unsafe FloatRows InnerOf(nint start) => new FloatRows((nint)Inner.Start, Rank, Rows).From(start);
}
