using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Inverses of the small matrices A Aᵀ and Bᵀ B of low-rank updates.</summary>
internal static class LowRankGram
{
    /// <summary>(G + damping I)⁻¹ of each matrix, those of one size together, in the caller's dispose scope.</summary>
    /// <param name="matrices">Symmetric matrices, [rank, rank] float32.</param>
    /// <param name="damping">Added to the diagonal.</param>
    internal static Tensor[] Inverses(IReadOnlyList<Tensor> matrices, double damping)
    {
        using var scope = NewDisposeScope();
        using Scalar added = damping;
        var inverses = new Tensor[matrices.Count];
        foreach (var same in Enumerable.Range(0, matrices.Count).GroupBy(i => (Size: matrices[i].size(0), matrices[i].device_index)))
        {
            int[] places = [.. same];
            var identity = diag_embed(ones([same.Key.Size], float32, matrices[places[0]].device));
            var inverse = linalg.inv(stack(places.Select(i => matrices[i])).add(identity, added));
            for (var i = 0; i < places.Length; i++)
            {
                inverses[places[i]] = inverse.select(0, i).MoveToOuterDisposeScope();
            }
        }

        return inverses;
    }
}
