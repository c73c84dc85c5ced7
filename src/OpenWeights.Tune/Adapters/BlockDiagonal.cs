using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A matrix A or B of which only blocks on the diagonal are stored, one above the other (BD-LoRA): A is [rank, in / blocks], B is [out, rank / blocks].
/// </summary>
/// <param name="IsA">Whether it is A, and otherwise B.</param>
/// <param name="Count">Number of blocks.</param>
internal sealed record BlockDiagonal(bool IsA, int Count)
{
    /// <summary>The whole matrix of stored blocks, with zeros outside of them; gradients pass.</summary>
    /// <param name="blocks">The stored blocks, [rows, columns / blocks].</param>
    internal Tensor Whole(Tensor blocks)
    {
        using var scope = NewDisposeScope();
        var diagonal = diag_embed(ones([Count], blocks.dtype, blocks.device)).view(Count, 1, Count, 1);
        return blocks.view(Count, -1, 1, blocks.size(1)).mul(diagonal).reshape(blocks.size(0), -1).MoveToOuterDisposeScope();
    }

    /// <summary>The blocks of a matrix that is zero outside of them.</summary>
    /// <param name="whole">The matrix.</param>
    internal Tensor Blocks(Tensor whole)
    {
        using var scope = NewDisposeScope();
        var (rows, columns) = (whole.size(0) / Count, whole.size(1) / Count);
        return cat([.. Enumerable.Range(0, Count).Select(i => whole.narrow(0, i * rows, rows).narrow(1, i * columns, columns))]).MoveToOuterDisposeScope();
    }
}
