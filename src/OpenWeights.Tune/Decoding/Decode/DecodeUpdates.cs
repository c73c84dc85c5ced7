using System.Runtime.CompilerServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>The low-rank updates s B A x that one adapter has for the layers of some products.</summary>
internal sealed unsafe class DecodeUpdates
{
    // Number of outputs computed at once.
    private const int Block = 256;

    private readonly Update?[] _updates;

    private DecodeUpdates(Update?[] updates, nint rank) => (_updates, Rank) = (updates, rank);

    /// <summary>Sum of the ranks of all updates.</summary>
    internal nint Rank { get; }

    /// <summary>The updates of an adapter.</summary>
    /// <param name="layers">The layers of the products.</param>
    /// <param name="updateOf">The adapter's update of a layer; null for none.</param>
    internal static DecodeUpdates Of(IReadOnlyList<LinearLayer> layers, Func<LinearLayer, LowRankUpdate?> updateOf)
    {
        var (updates, rank) = (new Update?[layers.Count], (nint)0);
        for (var i = 0; i < updates.Length; i++)
        {
            if (updateOf(layers[i]) is { } update)
            {
                updates[i] = new Update(update, RowMatrix.Of(update.A), RowMatrix.Of(update.B), rank);
                rank += (nint)update.A.size(0);
            }
        }

        return new DecodeUpdates(updates, rank);
    }

    /// <summary>Computes some of the products A x of all updates.</summary>
    /// <param name="first">The first.</param>
    /// <param name="last">The end, exclusive.</param>
    /// <param name="states">Input x of the rows that have the adapter.</param>
    /// <param name="inner">A x of all updates, [rows, <see cref="Rank"/>].</param>
    internal void RunInner(nint first, nint last, in FloatRows states, in FloatRows inner)
    {
        foreach (var update in _updates)
        {
            if (update is null)
            {
                continue;
            }

            var (from, to) = (Math.Max(first, update.Start) - update.Start, Math.Min(last, update.Start + update.Rank) - update.Start);
            if (from < to)
            {
                RowProduct.Run(update.Down, from, to, states, inner.From(update.Start + from));
            }
        }
    }

    /// <summary>Adds the update of one product to some of its outputs.</summary>
    /// <param name="product">Index of the product.</param>
    /// <param name="range">The first output, and the end, exclusive.</param>
    /// <param name="inner">A x of all updates.</param>
    /// <param name="output">All outputs of the product for the rows that have the adapter.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    [SkipLocalsInit]
    internal void Add(int product, (nint First, nint Last) range, in FloatRows inner, in FloatRows output, bool half)
    {
        if (_updates[product] is not { } update)
        {
            return;
        }

        var numbers = stackalloc float[Block * DecodeStep.MaxRows];
        var sums = new FloatRows((nint)numbers, Block, output.Count);
        for (var start = range.First; start < range.Last; start += Block)
        {
            var end = Math.Min(range.Last, start + Block);
            RowProduct.Run(update.Up, start, end, inner.From(update.Start), sums);
            for (nint row = 0; row < output.Count; row++)
            {
                DecodeMath.Add(output[row] + start, sums[row], update.Scale, end - start, half);
            }
        }

        GC.KeepAlive(update);
    }

    private sealed class Update(LowRankUpdate held, RowMatrix down, RowMatrix up, nint start)
    {
        internal RowMatrix Down => down;

        internal RowMatrix Up => up;

        internal nint Start => start;

        internal nint Rank { get; } = (nint)held.A.size(0);

        internal float Scale => held.Scale;
    }
}

/// <summary>Rows of a step that have the same adapter.</summary>
/// <param name="Adapter">The adapter, as it was made known.</param>
/// <param name="First">The first row.</param>
/// <param name="Count">Number of rows.</param>
internal readonly record struct DecodeGroup(object Adapter, int First, int Count);
