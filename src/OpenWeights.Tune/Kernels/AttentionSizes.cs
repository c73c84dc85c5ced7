namespace OpenWeights.Tune.Kernels;

/// <summary>Block sizes of attention that fit into the caches, in float32 elements.</summary>
internal sealed class AttentionSizes
{
    // Size of a block's scores, 768 KiB, and maximum number of its queries.
    private const nint BlockScores = 3 << 16;
    private const nint MaxRows = 16 * TileProduct.TileRows;

    /// <summary>Bytes of a block's scores and of their gradients.</summary>
    internal static long ScoreBytes => 2 * sizeof(float) * (long)BlockScores;

    /// <summary>Bytes of the scores of all queries of a block with a key, and of their gradients.</summary>
    internal static long BytesOfKey => 2 * sizeof(float) * (long)MaxRows;

    /// <param name="problem">The inputs.</param>
    /// <param name="vector">Number of elements of a vector.</param>
    /// <param name="strip">Number of columns of the widest tile.</param>
    internal AttentionSizes(AttentionProblem problem, int vector, int strip)
    {
        Strip = strip;
        Width = (problem.Width + vector - 1) / vector * vector;
        Keys = (problem.Keys + strip - 1) / strip * strip;
        Rows = Math.Clamp(BlockScores / Keys / TileProduct.TileRows * TileProduct.TileRows, 2 * TileProduct.TileRows, MaxRows);

        // Rows at a distance of a power of two would evict each other from the L1 cache.
        Stride = Keys + strip;
    }

    /// <summary>Number of keys per strip; those of a strip are interleaved for the product with the queries.</summary>
    internal nint Strip { get; }

    /// <summary>Head dimension, rounded up to whole vectors.</summary>
    internal nint Width { get; }

    /// <summary>Number of keys, rounded up to whole strips.</summary>
    internal nint Keys { get; }

    /// <summary>Number of queries per block.</summary>
    internal nint Rows { get; }

    /// <summary>Row stride of a block's scores.</summary>
    internal nint Stride { get; }

    /// <summary>Size of a thread's buffers.</summary>
    internal nint Scratch(bool backward) => backward ? (5 * Keys * Width) + (3 * Rows * Width) + (2 * Rows * Stride) + Stride : (2 * Keys * Width) + (2 * Rows * Width) + (Rows * Stride);
}
