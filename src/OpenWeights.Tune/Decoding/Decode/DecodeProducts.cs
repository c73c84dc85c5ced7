using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Linear layers with the same input; their outputs are concatenated.</summary>
internal sealed class DecodeProducts
{
    // Minimum bytes of weights per part, and maximum number of parts per thread, so that threads finish at about the same time. What is fetched ahead at the end
    // of a part is another's, so that parts should not be small.
    private const long MinPart = 1 << 15;
    private const int MaxParts = 8;

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

    /// <summary>Total number of output features.</summary>
    internal nint Columns { get; }

    /// <summary>Sum of the ranks of all updates.</summary>
    internal nint Rank { get; }

    private DecodeBuffer Inner { get; }

    private nint Rows { get; }

    /// <summary>Builds the products of layers; null if one is not supported.</summary>
    internal static DecodeProducts? Of(nint rows, ScalarType dtype, params IEnumerable<LinearLayer> layers)
    {
        var products = layers.Select(l => DecodeProduct.Of(l, dtype)).OfType<DecodeProduct>().ToArray();
        return products.Length == layers.Count() ? new DecodeProducts(products, rows) : null;
    }

    /// <summary>Number of parts that some of the outputs are split into.</summary>
    /// <param name="columns">Number of outputs.</param>
    /// <param name="threads">Number of threads.</param>
    internal int Parts(nint columns, int threads)
    {
        var parts = Math.Min(columns * _size / MinPart, MaxParts * threads);
        return parts < threads ? (int)Math.Max(1, parts) : (int)(parts / threads * threads);
    }

    /// <summary>Number of parts that the products A x are split into; 0 for none.</summary>
    internal int InnerParts(int threads) => Rank == 0 ? 0 : Parts(Rank, threads);

    /// <summary>Computes a part of the products A x.</summary>
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

    /// <summary>Computes a range of the outputs.</summary>
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
