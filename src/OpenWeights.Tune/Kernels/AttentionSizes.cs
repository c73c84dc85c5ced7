namespace OpenWeights.Tune.Kernels;

/// <summary>How attention is cut into blocks that fit into the caches; all in float32 numbers.</summary>
internal sealed class AttentionSizes
{
    // A block's scores, 768 KiB, and the most of its queries.
    private const nint BlockScores = 3 << 16;
    private const nint MaxRows = 16 * TileProduct.TileRows;

    /// <param name="problem">What looks at what.</param>
    /// <param name="vector">Numbers of a vector.</param>
    /// <param name="strip">Columns of the widest tile.</param>
    internal AttentionSizes(AttentionProblem problem, int vector, int strip)
    {
        Strip = strip;
        Width = (problem.Width + vector - 1) / vector * vector;
        Keys = (problem.Keys + strip - 1) / strip * strip;
        Rows = Math.Clamp(BlockScores / Keys / TileProduct.TileRows * TileProduct.TileRows, 2 * TileProduct.TileRows, MaxRows);

        // Rows that lie a power of two apart would push each other out of the first cache.
        Stride = Keys + strip;
    }

    /// <summary>Keys of a strip, which lie side by side where queries are multiplied with them.</summary>
    internal nint Strip { get; }

    /// <summary>head_dim, filled up to whole vectors.</summary>
    internal nint Width { get; }

    /// <summary>The number of keys, filled up to whole strips.</summary>
    internal nint Keys { get; }

    /// <summary>Queries of a block.</summary>
    internal nint Rows { get; }

    /// <summary>How far apart the rows of a block's scores lie.</summary>
    internal nint Stride { get; }

    /// <summary>What a thread needs.</summary>
    internal nint Scratch(bool backward) => backward ? (5 * Keys * Width) + (3 * Rows * Width) + (2 * Rows * Stride) + Stride : (2 * Keys * Width) + (2 * Rows * Width) + (Rows * Stride);
}
